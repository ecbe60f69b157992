//! Which backend a client goes to, and why.

pub mod balance;
pub mod decision;
pub mod rendezvous;
pub mod router;

pub use balance::{Picker, Strategy};
pub use decision::{
    Candidate, CandidateState, Decision, HomeView, Outcome, Plan, Policy, Request, Step, Wait, Why,
};
pub use router::{Claim, Router};
