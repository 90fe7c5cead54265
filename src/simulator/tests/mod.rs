//! The simulator as a client sees it: real TCP, nothing between.

mod client;
mod control;
mod front_end;
mod grammar;
mod scripts;
