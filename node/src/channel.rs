//! The socket between guardian and worker: whole messages, with descriptors beside them.
//!
//! What is said is defined in [`standfast_proto::guardian`]; here it is carried. Both ends are `SOCK_SEQPACKET`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use standfast_proto::guardian::{self, MAX_LEN, Message};

/// Descriptors in one message at most: the kernel's SCM_MAX_FD.
pub const MAX_FDS: usize = 253;

/// A message that came, with its descriptors.
#[derive(Debug)]
pub struct Parcel {
    /// What was said.
    pub message: Message,
    /// In the order in which they were sent.
    pub fds: Vec<OwnedFd>,
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends, not blocking, closed on exec.
    ///
    /// # Errors
    ///
    /// What socketpair(2) answers.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that a descriptor is.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Says a message. Waits for the other side to read where its queue is full, for a second at most.
    ///
    /// # Errors
    ///
    /// The other side is gone or does not read, or the message is too long.
    pub fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = guardian::encode(message.clone()).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::Error::other("more than 253 descriptors in one message"));
            }
            let slices = [IoSlice::new(&bytes)];
            match rustix::net::sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.await_room()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Says a message that the next of its kind replaces: where the other side's queue is full it is not said.
    ///
    /// # Errors
    ///
    /// The other side is gone.
    pub fn offer(&self, message: &Message) -> io::Result<()> {
        let bytes = guardian::encode(message.clone()).map_err(io::Error::other)?;
        match rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL) {
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn await_room(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        match poll(&mut fds, Some(&second)) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other side does not read",
            )),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the next message, if one has come.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where none has come, `UnexpectedEof` where the other side is gone, `InvalidData` for a message
    /// that cannot be understood.
    pub fn receive(&self) -> io::Result<Parcel> {
        let mut bytes = vec![0; MAX_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut slices, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(received) => break received,
            }
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(came) = message {
                fds.extend(came);
            }
        }
        let message = guardian::decode(&bytes[..received.bytes])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Parcel { message, fds })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use standfast_proto::guardian::{Heartbeat, Listeners};

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
        let message = Message::Listeners(Listeners {
            keys: vec![":1883".into(); 2],
            ..Listeners::default()
        });
        one.send(&message, &[left.as_fd(), right.as_fd()]).unwrap();
        let parcel = other.receive().unwrap();
        assert_eq!(parcel.message, message);
        assert_eq!(parcel.fds.len(), 2);
    }

    #[test]
    fn silence_and_the_end_are_told_apart() {
        let (one, other) = Channel::pair().unwrap();
        assert_eq!(
            other.receive().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(one);
        assert_eq!(
            other.receive().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn what_is_offered_to_a_side_that_does_not_read_waits_for_nothing() {
        let (one, other) = Channel::pair().unwrap();
        let message = Message::Heartbeat(Heartbeat { lap_age_ms: 1 });
        for _ in 0..10_000 {
            one.offer(&message).unwrap();
        }
        assert_eq!(other.receive().unwrap().message, message);
        drop(other);
        assert!(one.offer(&message).is_err());
    }

    #[test]
    fn a_side_that_does_not_read_does_not_hold_the_other_for_ever() {
        let (one, _other) = Channel::pair().unwrap();
        let message = Message::Heartbeat(Heartbeat { lap_age_ms: 1 });
        let error = (0..100_000)
            .find_map(|_| one.send(&message, &[]).err())
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
