//! From a file to a [`Config`], with every problem of the file found in one run.

mod model;

pub use model::*;
