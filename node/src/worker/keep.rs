//! What outlives a worker: for the next one, in the guardian's hands; over a restart of the node, on disk.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use standfast_gossip::sticky::{Hasher, Table, snapshot};

use crate::clock::unix_ms;
use crate::config::Sources;
use crate::pool::{Admin, Backend, Verdict};

/// What a crashed worker leaves for the next.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Kept {
    /// The configuration in force.
    pub sources: Sources,
    /// What commands made of backends, and what checks said of them.
    pub backends: Vec<KeptBackend>,
}

/// What is kept of a backend.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeptBackend {
    /// Name of its pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// What an operator said.
    pub admin: Admin,
    /// The weight by command.
    pub weight: Option<u32>,
    /// Whether checks said that it is up; `None` if they had not settled.
    pub up: Option<bool>,
    /// Whether it was down because its port or host was gone.
    pub dead: bool,
}

impl KeptBackend {
    /// What is to be kept of a backend.
    pub(super) fn of(backend: &Backend) -> Self {
        let verdict = backend.verdict();
        Self {
            pool: backend.pool.to_string(),
            name: backend.name.to_string(),
            admin: backend.admin(),
            weight: backend.weight_override(),
            up: (verdict != Verdict::Unknown).then_some(verdict == Verdict::Up),
            dead: verdict == Verdict::Dead,
        }
    }
}

impl Kept {
    /// Reads what the guardian handed over.
    pub(super) fn read(fd: OwnedFd) -> io::Result<Self> {
        let mut file = fs::File::from(fd);
        // The guardian's descriptor shares its place with every worker that read it before.
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// Puts it into memory that can be handed over.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("standfast-state", MemfdFlags::CLOEXEC)?;
        let mut file = fs::File::from(fd);
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        Ok(file.into())
    }
}

/// The key that sticky ids are made with: made once for this node, so that a table on disk stays readable.
///
/// Where the folder cannot be written, the key lives as long as the process, and the text says so.
pub(super) fn sticky_key(state_dir: &Path) -> (Hasher, Option<String>) {
    let path = state_dir.join("sticky.key");
    if let Ok(key) = fs::read(&path)
        && let Ok(key) = <[u8; 16]>::try_from(key)
    {
        return (Hasher::new(key), None);
    }
    let key: [u8; 16] = random();
    let problem = write_private(&path, &key).err().map(|error| {
        format!(
            "{}: {error}; the sticky table will not outlive this process",
            path.display()
        )
    });
    (Hasher::new(key), problem)
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // Cannot fail for so few bytes once the kernel has started up.
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    bytes
}

/// Writes a file in one step, for this user only.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Where a pool's table is kept on disk. Names of pools may hold what names of files may not.
fn table_path(state_dir: &Path, pool: &str) -> std::path::PathBuf {
    let name: String = pool
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect();
    state_dir.join(format!("sticky-{name}.table"))
}

/// Writes a pool's table to disk.
pub(super) fn save_table(
    state_dir: &Path,
    pool: &str,
    table: &Table,
    ids: &Hasher,
) -> io::Result<()> {
    let now = unix_ms();
    let mut encoder = snapshot::Encoder::new(ids.fingerprint(), now);
    for record in table.snapshot(now) {
        encoder.push(&record);
    }
    write_private(&table_path(state_dir, pool), &encoder.finish())
}

/// Reads a pool's table from disk; answers how many entries came back.
pub(super) fn load_table(
    state_dir: &Path,
    pool: &str,
    table: &Table,
    ids: &Hasher,
) -> Result<u32, String> {
    let path = table_path(state_dir, pool);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let snapshot =
        snapshot::decode(&bytes).map_err(|damage| format!("{}: {damage}", path.display()))?;
    if snapshot.fingerprint != ids.fingerprint() {
        return Err(format!(
            "{}: made with another key, so its ids mean nothing here",
            path.display()
        ));
    }
    Ok(table.restore(snapshot.records, unix_ms()))
}
