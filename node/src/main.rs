//! The program `standfast`.

fn main() {}
