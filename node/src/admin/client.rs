//! The command line's end of a control socket. Blocking: a command line waits for nothing else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{Answer, Ask, Reply, Request, VERSION};
use super::house::Refused;

/// Longest line that is read from a daemon.
const MAX_ANSWER: u64 = 256 << 20;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no daemon answers on {path}: {why}; is `standfast run` active there (systemctl status standfast), \
         and is this its socket (--socket, STANDFAST_SOCKET, or control.socket in the file of --config)?"
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The socket's mode forbids it.
    #[error(
        "not permitted to use {path}: ask as root, or as the owner or a member of the group of that socket \
         (control.owner, control.group, control.mode)"
    )]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// No answer in time.
    #[error(
        "the daemon on {path} did not answer within {seconds} s; what it did meanwhile is not known, \
         see `standfast status` and `standfast events`"
    )]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The daemon hung up.
    #[error("the daemon on {path} hung up in the middle of an answer: {why}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// The daemon said no.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Client {
    /// Connects to the daemon behind `path`, and will wait `patience` for each line of an answer.
    ///
    /// # Errors
    ///
    /// When nobody listens there or it is not permitted.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path: path.into() },
            io::ErrorKind::NotFound => ClientError::Unreachable {
                path: path.into(),
                why: "there is no such socket".into(),
            },
            io::ErrorKind::ConnectionRefused => ClientError::Unreachable {
                path: path.into(),
                why: "the socket is there, but its process is gone".into(),
            },
            _ => ClientError::Unreachable {
                path: path.into(),
                why: e.to_string(),
            },
        })?;
        let client = Self {
            path: path.into(),
            stream: BufReader::new(stream),
        };
        client.patience(Some(patience))?;
        Ok(client)
    }

    /// Asks, and gives each part of the answer to `each` as it comes. The last part is given, too, unless it is a no.
    ///
    /// # Errors
    ///
    /// When the daemon refuses, hangs up, or takes too long; and what `each` answers with.
    pub fn ask(
        &mut self,
        request: Request,
        mut each: impl FnMut(Answer) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        if matches!(&request, Request::Events(query) if query.follow) {
            // The next event may come tomorrow.
            self.patience(None)?;
        }
        let ask = Ask {
            v: VERSION,
            request,
        };
        let mut line = serde_json::to_vec(&ask).map_err(|e| self.broken(&e))?;
        line.push(b'\n');
        self.stream
            .get_mut()
            .write_all(&line)
            .map_err(|e| self.fault(&e))?;
        loop {
            let answer = self.answer()?;
            let last = answer.is_last();
            if let Answer::Refused(refused) = answer {
                return Err(refused.into());
            }
            each(answer).map_err(|e| self.broken(&e))?;
            if last {
                return Ok(());
            }
        }
    }

    fn answer(&mut self) -> Result<Answer, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(MAX_ANSWER)
            .read_until(b'\n', &mut line);
        match read {
            Err(e) => Err(self.fault(&e)),
            Ok(0) => Err(self.broken(&"it closed the connection")),
            Ok(_) => serde_json::from_slice::<Reply>(&line)
                .map(|reply| reply.answer)
                .map_err(|e| self.broken(&format!("its answer is not understood: {e}"))),
        }
    }

    fn patience(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        self.stream
            .get_ref()
            .set_read_timeout(patience)
            .map_err(|e| self.fault(&e))
    }

    fn fault(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::TimedOut {
                path: self.path.clone(),
                seconds: self
                    .stream
                    .get_ref()
                    .read_timeout()
                    .ok()
                    .flatten()
                    .map_or(0, |patience| patience.as_secs()),
            },
            _ => self.broken(error),
        }
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }
}
