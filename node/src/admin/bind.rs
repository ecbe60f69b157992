//! A control socket in the file system: made under another name, given its owner and mode, then put in place.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

use super::users;
use crate::config::ControlSocket;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 64;

/// A control socket that is in place. Dropping it removes its name, if that is still its own.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    name: Name,
}

/// The socket's name in the file system.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    /// Device and inode: another process may have put its own socket in place meanwhile.
    file: (u64, u64),
}

/// Why a control socket could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers there.
    #[error(
        "control socket {path}: another process answers there; stop it, or set another control.socket"
    )]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path is taken by something else.
    #[error("control socket {path}: there is a file with that name that is no socket")]
    NoSocket {
        /// The socket's path.
        path: PathBuf,
    },
    /// No such user.
    #[error("control socket {path}: there is no user {name:?} on this machine (control.owner)")]
    NoUser {
        /// The socket's path.
        path: PathBuf,
        /// The user.
        name: String,
    },
    /// No such group.
    #[error("control socket {path}: there is no group {name:?} on this machine (control.group)")]
    NoGroup {
        /// The socket's path.
        path: PathBuf,
        /// The group.
        name: String,
    },
    /// The system refused.
    #[error("control socket {path}: cannot {step}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Puts a control socket in place. Nobody can connect before its owner, group and mode are as configured.
///
/// A socket that nobody answers on is replaced; a missing directory is made if its parent exists.
///
/// # Errors
///
/// When somebody answers there, or a name is not known, or the system refuses.
pub fn bind(config: &ControlSocket) -> Result<Bound, BindError> {
    free(&config.socket)?;
    replace(config)
}

/// As [`bind`], over whatever is there: for a socket of our own that changes.
///
/// # Errors
///
/// When a name is not known or the system refuses.
pub(super) fn replace(config: &ControlSocket) -> Result<Bound, BindError> {
    let path = config.socket.as_path();
    let fault = |step| {
        let path = path.to_owned();
        move |source| BindError::Io { path, step, source }
    };
    let (uid, gid) = owners(config)?;
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        match fs::create_dir(directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(fault("make its directory")(e)),
        }
    }

    let draft = path.with_file_name(format!(".{:x}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fault("make a socket"))?;
    let address = SockAddr::unix(&draft).map_err(fault("use so long a path"))?;
    socket.bind(&address).map_err(fault("bind it"))?;
    // From here on a failure must not leave the draft behind.
    let placed = (|| {
        // Bound and not listening: connecting is refused whatever the mode is at this moment.
        if uid.is_some() || gid.is_some() {
            rustix::fs::chown(&draft, uid, gid)
                .map_err(io::Error::from)
                .map_err(fault("give it to its owner and group"))?;
        }
        fs::set_permissions(&draft, fs::Permissions::from_mode(config.mode))
            .map_err(fault("set its mode"))?;
        socket.listen(BACKLOG).map_err(fault("listen on it"))?;
        socket
            .set_nonblocking(true)
            .map_err(fault("make it non-blocking"))?;
        let file = fs::symlink_metadata(&draft).map_err(fault("look at it"))?;
        fs::rename(&draft, path).map_err(fault("put it in place"))?;
        Ok((file.dev(), file.ino()))
    })();
    match placed {
        Ok(file) => Ok(Bound {
            listener: UnixListener::from(OwnedFd::from(socket)),
            name: Name {
                path: path.to_owned(),
                file,
            },
        }),
        Err(e) => {
            let _ = fs::remove_file(&draft);
            Err(e)
        }
    }
}

impl Bound {
    /// The listener, non-blocking, and its name.
    pub(super) fn into_parts(self) -> (UnixListener, Name) {
        (self.listener, self.name)
    }
}

impl Name {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn owners(config: &ControlSocket) -> Result<(Option<Uid>, Option<Gid>), BindError> {
    let uid = match &config.owner {
        None => None,
        Some(name) => Some(users::user(name).ok_or_else(|| BindError::NoUser {
            path: config.socket.clone(),
            name: name.clone(),
        })?),
    };
    let gid = match &config.group {
        None => None,
        Some(name) => Some(users::group(name).ok_or_else(|| BindError::NoGroup {
            path: config.socket.clone(),
            name: name.clone(),
        })?),
    };
    Ok((uid.map(Uid::from_raw), gid.map(Gid::from_raw)))
}

/// Makes sure that nobody answers at `path`, and that what is there may be replaced.
fn free(path: &Path) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(BindError::Io {
                path: path.to_owned(),
                step: "look at its path",
                source,
            });
        }
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NoSocket {
            path: path.to_owned(),
        });
    }
    if answers(path) {
        return Err(BindError::InUse {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Whether a process listens there. Does not wait: a full backlog is an answer, too.
fn answers(path: &Path) -> bool {
    let probe = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match probe() {
        Ok(()) => true,
        Err(e) => {
            e.kind() != io::ErrorKind::ConnectionRefused && e.kind() != io::ErrorKind::NotFound
        }
    }
}
