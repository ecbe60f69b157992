//! From the command line to the daemon: which socket, and one question.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Global;
use super::exit::{Exit, Failure};
use crate::admin::client::Client;
use crate::admin::command::{Answer, Command, Request};
use crate::admin::view::{Done, View};
use crate::config::{self, Overrides};

/// Where the daemon listens if nothing says otherwise.
const DEFAULT_SOCKET: &str = "/run/standfast/control.sock";

/// How long each part of an answer may take. A reload resolves names and opens files.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket: as told, else as the configuration says, else the default.
pub fn socket(global: &Global) -> PathBuf {
    if let Some(socket) = &global.socket {
        return socket.clone();
    }
    let overrides = Overrides::of_this_machine(global.node.clone());
    let configured = match config::load(&global.config, &overrides) {
        Ok(loaded) => loaded.config.control.first().map(|c| c.socket.clone()),
        // Half-edited, maybe: the daemon still listens where the file said before.
        Err(_) => std::fs::read_to_string(&global.config)
            .ok()
            .and_then(|text| socket_in(&text)),
    };
    configured.unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// `control.socket` of a file that has problems elsewhere.
pub(super) fn socket_in(text: &str) -> Option<PathBuf> {
    let file: toml::Table = text.parse().ok()?;
    let control = match file.get("control")? {
        toml::Value::Array(several) => several.first()?,
        one => one,
    };
    Some(control.get("socket")?.as_str()?.into())
}

/// Connects to the daemon.
pub fn connect(global: &Global) -> Result<Client, Failure> {
    Ok(Client::connect(&socket(global), PATIENCE)?)
}

/// Connects to this socket with less patience.
pub fn connect_within(path: &Path, patience: Duration) -> Result<Client, Failure> {
    Ok(Client::connect(path, patience)?)
}

/// Asks for the view.
pub fn view(client: &mut Client) -> Result<View, Failure> {
    let mut view = None;
    client.ask(Request::Status, |answer| match answer {
        Answer::View(told) => {
            view = Some(*told);
            Ok(())
        }
        other => Err(unexpected(&other)),
    })?;
    view.ok_or_else(|| Failure::new(Exit::Failed, "the daemon said nothing"))
}

/// Gives an order.
pub fn command(client: &mut Client, command: Command) -> Result<Done, Failure> {
    let mut done = None;
    client.ask(Request::Command(command), |answer| match answer {
        Answer::Done(told) => {
            done = Some(told);
            Ok(())
        }
        other => Err(unexpected(&other)),
    })?;
    done.ok_or_else(|| Failure::new(Exit::Failed, "the daemon said nothing"))
}

/// An answer to another question.
pub fn unexpected(answer: &Answer) -> io::Error {
    let mut kind = format!("{answer:?}");
    kind.truncate(kind.find(['(', ' ', '{']).unwrap_or(kind.len()));
    io::Error::other(format!("it answered another question ({kind})"))
}
