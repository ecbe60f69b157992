//! The addresses that were known when the program last ran: `addresses.json` in the state folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::events::{Events, Loudness};

/// Name of the file in the state folder.
pub const FILE: &str = "addresses.json";

/// The version of the file that is written and read.
const VERSION: u32 = 1;

/// A file longer than this is not ours.
const MAX_BYTES: u64 = 1 << 20;

/// Host names and the address that each had last. Clones share it.
#[derive(Clone, Debug)]
pub struct Addresses {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    known: Mutex<BTreeMap<String, IpAddr>>,
    /// Held while the file is written, so that an older state never overwrites a younger one.
    writing: Mutex<()>,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Content {
    version: u32,
    addresses: BTreeMap<String, IpAddr>,
}

impl Addresses {
    /// Reads the file in `state_dir`. None is no news; one that cannot be read is noted, and forgotten at the next change.
    #[must_use]
    pub fn load(state_dir: &Path, events: &Events) -> Self {
        let path = state_dir.join(FILE);
        let known = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let text = format!(
                    "{}: {error}; addresses of the last run are not known",
                    path.display()
                );
                events.note(Loudness::Warn, "node", "", &text, "");
            }
            BTreeMap::new()
        });
        Self {
            inner: Arc::new(Inner {
                path,
                known: Mutex::new(known),
                writing: Mutex::new(()),
            }),
        }
    }

    /// The address that a host had last.
    #[must_use]
    pub fn get(&self, host: &str) -> Option<IpAddr> {
        self.inner.known.lock().get(host).copied()
    }

    /// Keeps an address, in the file too if it has changed. Trouble with the file is noted and otherwise harmless.
    pub async fn remember(&self, host: &str, ip: IpAddr, events: &Events) {
        if self.inner.known.lock().insert(host.to_owned(), ip) == Some(ip) {
            return;
        }
        self.save(events).await;
    }

    /// Forgets hosts that no backend has any more.
    pub async fn retain(&self, keep: impl Fn(&str) -> bool, events: &Events) {
        let forgotten = {
            let mut known = self.inner.known.lock();
            let before = known.len();
            known.retain(|host, _| keep(host));
            before - known.len()
        };
        if forgotten > 0 {
            self.save(events).await;
        }
    }

    async fn save(&self, events: &Events) {
        let inner = Arc::clone(&self.inner);
        let written = tokio::task::spawn_blocking(move || inner.write()).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            let text = format!("{}: {error}; not written", self.inner.path.display());
            events.note(Loudness::Warn, "node", "", &text, "");
        }
    }
}

impl Inner {
    /// A new file in the place of the old one, so that a crash leaves one of them whole.
    fn write(&self) -> io::Result<()> {
        let _alone = self.writing.lock();
        let content = Content {
            version: VERSION,
            addresses: self.known.lock().clone(),
        };
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, &content)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, IpAddr>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    let content: Content = serde_json::from_slice(&text)?;
    if content.version != VERSION {
        let version = content.version;
        return Err(io::Error::other(format!(
            "version {version}, known is {VERSION}"
        )));
    }
    Ok(content.addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("standfast-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        folder
    }

    fn warnings(events: &Events) -> Vec<String> {
        let (events, _) = events.recent_and_live(9);
        events.into_iter().map(|event| event.text).collect()
    }

    #[tokio::test]
    async fn what_is_remembered_is_there_in_the_next_life() {
        let (folder, events) = (folder("memory"), Events::default());
        let ip: IpAddr = "10.0.0.11".parse().expect("an address");
        let first = Addresses::load(&folder, &events);
        assert_eq!(first.get("mq1.example"), None);
        first.remember("mq1.example", ip, &events).await;
        first
            .remember("mq2.example", IpAddr::from([0; 16]), &events)
            .await;
        let second = Addresses::load(&folder, &events);
        assert_eq!(second.get("mq1.example"), Some(ip));
        second.retain(|host| host == "mq2.example", &events).await;
        let third = Addresses::load(&folder, &events);
        assert_eq!(
            (third.get("mq1.example"), third.get("mq2.example").is_some()),
            (None, true)
        );
        assert_eq!(warnings(&events), [""; 0]);
        let left: Vec<_> = std::fs::read_dir(&folder).expect("it is there").collect();
        assert_eq!(left.len(), 1, "no half-written file stays");
        std::fs::remove_dir_all(folder).expect("it is there");
    }

    #[tokio::test]
    async fn a_damaged_file_is_a_warning_and_is_replaced() {
        let folder = folder("damaged");
        for damaged in [
            "",
            "{",
            "[]",
            "\u{0}",
            r#"{"version":2,"addresses":{}}"#,
            r#"{"version":1,"addresses":{"a":"b"}}"#,
        ] {
            let events = Events::default();
            std::fs::write(folder.join(FILE), damaged).expect("it takes a file");
            let addresses = Addresses::load(&folder, &events);
            assert_eq!(warnings(&events).len(), 1, "{damaged}");
            let ip = IpAddr::from([10, 0, 0, 1]);
            addresses.remember("a", ip, &events).await;
            assert_eq!(Addresses::load(&folder, &events).get("a"), Some(ip));
            assert_eq!(warnings(&events).len(), 1, "{damaged}");
        }
        std::fs::remove_dir_all(&folder).expect("it is there");
        let events = Events::default();
        let addresses = Addresses::load(&folder, &events);
        addresses
            .remember("a", IpAddr::from([10, 0, 0, 1]), &events)
            .await;
        assert!(
            warnings(&events)[0].contains("not written"),
            "{:?}",
            warnings(&events)
        );
    }
}
