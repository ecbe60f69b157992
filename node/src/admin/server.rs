//! The control sockets: accepts their clients and speaks for a [`House`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::bind::{BindError, Name, bind};
use super::command::{Answer, Reply, VERSION};
use super::house::{House, Refused};
use super::session::Session;
use crate::config::{ControlLevel, ControlSocket};

/// Clients of one socket at once; each costs a task and at most one request and one page of an answer.
const CLIENTS: usize = 64;

/// All control sockets of the process. Dropping it closes them and removes their names.
#[derive(Debug)]
pub struct Server<H> {
    house: Arc<H>,
    open: Mutex<BTreeMap<PathBuf, Open>>,
}

/// One socket in service.
#[derive(Debug)]
struct Open {
    config: ControlSocket,
    level: watch::Sender<ControlLevel>,
    accepts: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

impl<H: House> Server<H> {
    /// A server without sockets.
    pub fn new(house: Arc<H>) -> Self {
        Self {
            house,
            open: Mutex::default(),
        }
    }

    /// Opens the sockets that are configured and closes those that are not any more; call it in a tokio runtime.
    ///
    /// A socket whose owner, group or mode changes is made anew; another level changes in place.
    ///
    /// # Errors
    ///
    /// When a socket cannot be put in place; then those that are served go on as they were.
    pub fn apply(&self, sockets: &[ControlSocket]) -> Result<(), BindError> {
        let mut open = self.open.lock();
        let mut fresh = Vec::new();
        for config in sockets {
            let kept = open
                .get(&config.socket)
                .is_some_and(|open| same_file(&open.config, config));
            if !kept {
                fresh.push(match open.get(&config.socket) {
                    // Ours answers there: it is replaced in one step, so that no client meets a missing socket.
                    Some(_) => super::bind::replace(config)?,
                    None => bind(config)?,
                });
            }
        }
        open.retain(|path, _| sockets.iter().any(|config| config.socket == *path));
        for bound in fresh {
            let (listener, name) = bound.into_parts();
            let listener = UnixListener::from_std(listener).map_err(|source| BindError::Io {
                path: name.path().to_owned(),
                step: "watch it",
                source,
            })?;
            let config = sockets
                .iter()
                .find(|config| config.socket == name.path())
                .expect("each fresh socket was made from one of these");
            let (level, level_seen) = watch::channel(config.level);
            let accepts = tokio::spawn(accept(listener, name, Arc::clone(&self.house), level_seen));
            let config = config.clone();
            let socket = Open {
                config,
                level,
                accepts,
            };
            open.insert(socket.config.socket.clone(), socket);
        }
        for config in sockets {
            if let Some(open) = open.get_mut(&config.socket) {
                open.config = config.clone();
                open.level.send_replace(config.level);
            }
        }
        Ok(())
    }

    /// Closes all sockets and waits until their names are gone. Clients that are being answered are answered.
    pub async fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for mut socket in open.into_values() {
            socket.accepts.abort();
            let _ = (&mut socket.accepts).await;
        }
    }
}

fn same_file(a: &ControlSocket, b: &ControlSocket) -> bool {
    (&a.owner, &a.group, a.mode) == (&b.owner, &b.group, b.mode)
}

async fn accept<H: House>(
    listener: UnixListener,
    name: Name,
    house: Arc<H>,
    level: watch::Receiver<ControlLevel>,
) {
    let room = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, most likely: they come back, and waiting keeps this from spinning.
                tracing::warn!(socket = %name.path().display(), error = %e, "cannot accept a control client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let (house, level) = (Arc::clone(&house), level.clone());
        tokio::spawn(async move {
            if let Err(e) = serve(stream, house, level).await {
                tracing::debug!(error = %e, "a control client is gone");
            }
            drop(place);
        });
    }
}

async fn serve<H: House>(
    stream: UnixStream,
    house: Arc<H>,
    level: watch::Receiver<ControlLevel>,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, writer) = stream.into_split();
    let session = Session {
        house,
        level,
        by: format!("uid {uid} by control socket"),
        reader: BufReader::new(reader),
        writer,
    };
    session.run().await
}

async fn turn_away(mut stream: UnixStream) {
    let reply = Reply {
        v: VERSION,
        answer: Answer::Refused(Refused::failed(format!(
            "this control socket serves {CLIENTS} clients already; try again, or end some `events -f`"
        ))),
    };
    if let Ok(mut line) = serde_json::to_vec(&reply) {
        line.push(b'\n');
        // A few bytes into an empty socket buffer: they do not wait for the client.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&line)).await;
    }
}

#[cfg(test)]
mod tests;
