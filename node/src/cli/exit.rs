//! How a command ended: the number that scripts read and the sentence that people read.

use std::process::ExitCode;

use crate::admin::client::ClientError;
use crate::admin::house::{Refused, RefusedKind};

/// The exit codes of every verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or all good.
    Done = 0,
    /// Failed, or unhealthy.
    Failed = 1,
    /// Usage or configuration error.
    Usage = 2,
    /// No daemon answers.
    Unreachable = 4,
    /// Refused by policy.
    Refused = 5,
    /// Timed out, and what is so now is not known.
    TimedOut = 6,
    /// Not permitted.
    NotPermitted = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The number.
    pub exit: Exit,
    /// The sentence; may be several lines.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// A usage or configuration error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } => Exit::Unreachable,
            ClientError::NotPermitted { .. } => Exit::NotPermitted,
            // A daemon that hangs up may have done it.
            ClientError::TimedOut { .. } | ClientError::Broken { .. } => Exit::TimedOut,
            ClientError::Refused(Refused { kind, .. }) => match kind {
                RefusedKind::NotFound | RefusedKind::Failed | RefusedKind::Other => Exit::Failed,
                RefusedKind::Invalid => Exit::Usage,
                RefusedKind::Policy => Exit::Refused,
                RefusedKind::TimedOut => Exit::TimedOut,
            },
        };
        Self::new(exit, error.to_string())
    }
}
