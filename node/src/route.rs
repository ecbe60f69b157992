//! Which backend a client goes to, and why.

pub mod balance;
pub mod decision;
pub mod facts;
pub mod rendezvous;
pub mod router;

pub use balance::{Picker, Strategy};
pub use decision::{Decision, Moved, Outcome, Plan, Step, Wait, Why};
pub use facts::{Candidate, CandidateState, HomeView, Policy, Request, Stickiness};
pub use router::{Claim, Router};
