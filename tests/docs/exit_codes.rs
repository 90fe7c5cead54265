//! The exit codes in `README.md` are those of `src/cli/exit.rs`.

use std::collections::BTreeSet;

use crate::markdown::{read, table};

/// What clap ends with where the arguments are wrong.
const WRONG_ARGUMENTS: &str = "2";

#[test]
fn the_table_of_exit_codes_has_every_code() {
    let rows = table(&read("README.md"), "| exit code |");
    let said: BTreeSet<String> = rows.iter().flat_map(|row| row[0].split(", ")).map(str::to_owned).collect();
    let source = read("src/cli/exit.rs");
    let variants = source.lines().skip_while(|line| !line.contains("enum Exit")).take_while(|line| *line != "}");
    let codes = variants.filter_map(|line| line.split_once(" = ")?.1.strip_suffix(','));
    let codes: BTreeSet<String> = codes.chain([WRONG_ARGUMENTS]).map(str::to_owned).collect();
    assert_eq!(said, codes, "on the left what README says, on the right what src/cli/exit.rs does");
}
