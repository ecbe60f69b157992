//! A configuration between its file and the model: read, with places, references not yet followed.

use std::path::PathBuf;

use super::model::{Bind, ControlSocket, Limits, Listener, Log, Node, Pool};
use super::problem::At;

/// Everything that the files say, as far as it could be read. Only one without errors becomes a
/// [`Config`](super::Config): where a value is wrong, its default stands in, so that reading goes on.
pub(super) struct Draft {
    pub node: Node,
    pub limits: Limits,
    pub limits_at: At,
    pub log: Log,
    pub control: Vec<(ControlSocket, At)>,
    pub listeners: Vec<ListenerDraft>,
    pub pools: Vec<PoolDraft>,
    /// Files that the configuration names and that must be there, with the key that names them.
    pub files: Vec<(PathBuf, String, At)>,
}

pub(super) struct ListenerDraft {
    pub listener: Listener,
    pub path: String,
    pub name_at: At,
    /// Whether the file gives the name.
    pub named: bool,
    pub bind_at: Vec<(Bind, At)>,
    /// Name of the pool; `None` where it is missing or wrong, which has been told.
    pub pool: Option<(String, At)>,
    pub packet_at: At,
    pub limits_at: At,
}

pub(super) struct PoolDraft {
    pub pool: Pool,
    pub path: String,
    pub at: At,
    /// `None` where the name is missing or wrong, which has been told.
    pub name_at: Option<At>,
    pub sticky_at: At,
    /// Whether the file has a table `sticky`.
    pub sticky_written: bool,
    pub idle_at: At,
    pub check_at: At,
    pub min_up_at: At,
    /// Places of `pool.backends`, in the same order.
    pub backends: Vec<BackendAt>,
    /// Whether a backend could not be read, so that the list is not whole.
    pub partial: bool,
}

pub(super) struct BackendAt {
    pub at: At,
    pub name_at: At,
    pub path: String,
    /// Where the check stands that holds for it.
    pub check_at: At,
    /// Whether that is a table of its own.
    pub own_check: bool,
}

impl Draft {
    /// The end of the way; call it only where no error was found. Pools are followed by name.
    pub fn into_config(self) -> super::Config {
        let pools: Vec<Pool> = self.pools.into_iter().map(|p| p.pool).collect();
        let listeners = self.listeners.into_iter().map(|l| {
            let name = l.pool.map(|(name, _)| name);
            let pool = pools
                .iter()
                .position(|p| Some(&p.name) == name.as_ref())
                .unwrap_or(0);
            Listener { pool, ..l.listener }
        });
        super::Config {
            node: self.node,
            limits: self.limits,
            log: self.log,
            control: self.control.into_iter().map(|(socket, _)| socket).collect(),
            listeners: listeners.collect(),
            pools,
        }
    }
}
