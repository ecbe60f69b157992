//! The worker's end of the channel to its guardian.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use standfast_proto::guardian::{BindError, Listener, Message, Plan};
use tokio::sync::{Mutex, mpsc};

use crate::channel::{Channel, Parcel};
use crate::sys;

/// What the guardian asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// Read the configuration again.
    Reload,
    /// Open the log files again.
    Reopen,
    /// Close connections and end.
    Stop,
    /// The guardian is gone: end now.
    Gone,
}

/// The guardian, as the worker sees it.
#[derive(Debug)]
pub struct Guard {
    channel: Channel,
    /// Answers to plans; whoever sent one holds the lock until it is answered.
    answers: Mutex<mpsc::Receiver<Parcel>>,
}

/// What a plan came to.
pub type Sockets = Vec<(String, OwnedFd)>;

impl Guard {
    /// Speaks on `channel` and passes the guardian's wishes on.
    ///
    /// # Errors
    ///
    /// The channel cannot be watched.
    pub fn new(channel: Channel, wishes: mpsc::Sender<Wish>) -> io::Result<Self> {
        // A plan of thousands of sockets is answered in a few messages.
        let (sender, answers) = mpsc::channel(64);
        let fd = channel.as_fd().try_clone_to_owned()?;
        let hearing = Channel::from_fd(fd.try_clone()?);
        let watched = sys::watch(fd)?;
        tokio::spawn(async move {
            loop {
                let Ok(mut ready) = watched.readable().await else {
                    break;
                };
                match hearing.receive() {
                    Ok(parcel) => {
                        let wish = match parcel.message {
                            Message::Reload(_) => Wish::Reload,
                            Message::Reopen(_) => Wish::Reopen,
                            Message::Stop(_) => Wish::Stop,
                            Message::Listeners(_) => {
                                if sender.send(parcel).await.is_err() {
                                    break;
                                }
                                continue;
                            }
                            _ => continue,
                        };
                        match wish {
                            // Whoever takes wishes may be waiting for an answer that is behind this one.
                            Wish::Stop => {
                                let wishes = wishes.clone();
                                tokio::spawn(async move { wishes.send(wish).await });
                            }
                            // Where the queue is full, there are others of the kind in it.
                            _ => drop(wishes.try_send(wish)),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tracing::warn!(%error, "the guardian said what cannot be understood");
                    }
                    Err(_) => break,
                }
            }
            // Nobody left to hear it is fine.
            let _ = wishes.send(Wish::Gone).await;
        });
        Ok(Self {
            channel,
            answers: Mutex::new(answers),
        })
    }

    /// Says a message.
    ///
    /// # Errors
    ///
    /// The guardian is gone or does not read.
    pub fn say(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.channel.send(message, fds)
    }

    /// Says a message that the next of its kind replaces, and waits for nothing.
    ///
    /// # Errors
    ///
    /// The guardian is gone.
    pub fn offer(&self, message: &Message) -> io::Result<()> {
        self.channel.offer(message)
    }

    /// Asks for these listeners; answers their sockets, or what could not be bound.
    ///
    /// # Errors
    ///
    /// The guardian is gone.
    pub async fn plan(
        &self,
        listeners: Vec<Listener>,
        stop_grace_ms: u64,
    ) -> io::Result<Result<Sockets, Vec<BindError>>> {
        let mut answers = self.answers.lock().await;
        let plan = Plan {
            listeners,
            stop_grace_ms,
        };
        self.say(&Message::Plan(plan), &[])?;
        let mut sockets = Vec::new();
        let mut errors = Vec::new();
        loop {
            let parcel = answers.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let Message::Listeners(answer) = parcel.message else {
                continue;
            };
            sockets.extend(answer.keys.into_iter().zip(parcel.fds));
            errors.extend(answer.errors);
            if !answer.more {
                break;
            }
        }
        Ok(if errors.is_empty() {
            Ok(sockets)
        } else {
            Err(errors)
        })
    }
}

/// What could not be bound, as one line.
pub(super) fn bind_errors(errors: &[BindError]) -> String {
    let texts: Vec<_> = errors
        .iter()
        .map(|error| format!("cannot listen on {}: {}", error.key, error.message))
        .collect();
    texts.join("; ")
}
