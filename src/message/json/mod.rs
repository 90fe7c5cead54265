//! JSON as messages hold it: objects whose fields are read one by one, and written byte by byte.
//!
//! | file | subject |
//! |---|---|
//! | `fields` | the fields of an object, without building a tree; what is wrong with one is a sentence |
//! | `field_error` | these sentences, and the first of them |
//! | `half_character` | half of a surrogate pair, which no other reader takes |
//! | `json_depth` | how deeply a text is nested, and how deeply it may be |
//! | `json_text` | any JSON, as it came, shared with the message that it came in |
//! | `json_object` | writes an object, raw JSON in it exactly as it came |

mod field_error;
mod fields;
mod half_character;
mod json_depth;
mod json_object;
mod json_text;

pub(super) use field_error::{FieldError, FirstError, cut, quoted};
pub(super) use fields::{BODY, Field, Location, read_fields};
pub use half_character::has_half_character;
pub use json_depth::{MAX_JSON_DEPTH, json_depth};
pub(super) use json_object::JsonObject;
pub use json_text::JsonText;
