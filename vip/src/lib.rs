//! Who may hold a virtual address, and whether a node is fit to.
//!
//! For now one room: [`supervise`], the rules by which the guardian of a node judges its worker. It is pure: it is
//! told what happened and when, and answers what to do.

pub mod supervise;
