//! A house for tests: answers from fixed values and writes down what it was told.

use std::net::IpAddr;
use std::path::PathBuf;

use parking_lot::Mutex;

use super::command::{Command, ConnectionFilter, StickyPage, StickyQuery};
use super::house::{House, Refused};
use super::view::{ConnectionRow, Done, Explanation, StickyRow, View};
use crate::events::Events;

/// A house that remembers its commands.
#[derive(Debug, Default)]
pub struct Ledger {
    pub view: View,
    pub rows: Vec<ConnectionRow>,
    pub sticky: Vec<StickyRow>,
    pub events: Events,
    pub told: Mutex<Vec<(Command, String)>>,
    /// What every command is refused with.
    pub refuses: Option<Refused>,
}

impl House for Ledger {
    fn view(&self) -> View {
        self.view.clone()
    }

    async fn connections(&self, filter: ConnectionFilter) -> Vec<ConnectionRow> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let fits = self.rows.iter().filter(|row| filter.fits(row));
        fits.take(limit).cloned().collect()
    }

    /// Pages of three, so that tests meet several.
    fn sticky(&self, query: &StickyQuery) -> Result<StickyPage, Refused> {
        if query.pool.as_deref().is_some_and(|pool| pool != "mqtt") {
            return Err(Refused::not_found("there is no such pool"));
        }
        let from: usize = query
            .cursor
            .as_deref()
            .and_then(|cursor| cursor.parse().ok())
            .unwrap_or(0);
        let most = query.limit.unwrap_or(3).min(3);
        let rows: Vec<_> = self.sticky.iter().skip(from).take(most).cloned().collect();
        let next = from + rows.len();
        Ok(StickyPage {
            rows,
            next: (next < self.sticky.len()).then(|| next.to_string()),
        })
    }

    fn explain(
        &self,
        client: &str,
        pool: Option<&str>,
        ip: Option<IpAddr>,
    ) -> Result<Vec<Explanation>, Refused> {
        Ok(vec![Explanation {
            node: "lb1".into(),
            pool: pool.unwrap_or("mqtt").into(),
            client: client.into(),
            backend: Some("mq1".into()),
            why: "sticky-hit".into(),
            steps: vec![format!("asked with address {ip:?}")],
        }])
    }

    async fn command(&self, command: Command, by: &str) -> Result<Done, Refused> {
        self.told.lock().push((command.clone(), by.to_owned()));
        if let Some(refused) = &self.refuses {
            return Err(refused.clone());
        }
        Ok(Done {
            node: "lb1".into(),
            changed: vec![format!("{command:?}")],
            undo: Some("standfast undo".into()),
            warnings: Vec::new(),
        })
    }

    fn events(&self) -> &Events {
        &self.events
    }
}

/// A directory that goes with its test.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sf-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
