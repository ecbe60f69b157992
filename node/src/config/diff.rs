//! What changes from one configuration to another, in lines for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::effective::{shares_check, tree};
use super::model::{Config, Pool};

/// One line of a difference.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// What it is about: `pool mqtt`, `listener :1883`, `node`.
    pub place: String,
    /// What happens to it: `connect_deadline 10s → 5s`, `backend mq4 10.0.0.14:1883 added`.
    pub what: String,
    /// Whether it holds only after the next start.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if self.needs_restart {
            f.write_str(" (after a restart)")
        } else {
            Ok(())
        }
    }
}

/// Keys that a running process cannot change.
const AT_START: [&str; 3] = ["node.name", "node.state_dir", "node.threads"];

/// All changes from `old` to `new`, in the order of the file; empty exactly if the two are equal. Listeners, pools
/// and backends are known by their names, control sockets by their paths.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    // Where a backend gets a check of its own, the checks of all are compared one by one.
    let uneven = |config: &Config, pool: &Pool| {
        config
            .pools
            .iter()
            .any(|p| p.name == pool.name && !shares_check(p))
    };
    let split = |pool: &Pool| uneven(old, pool) || uneven(new, pool);
    let (old, new) = (tree(old, &split), tree(new, &split));
    let mut changes = Vec::new();
    for key in ["node", "limits", "log"] {
        keys(&mut changes, key, "", &old[key], &new[key]);
    }
    lists(
        &mut changes,
        &List {
            kind: "control",
            id: "socket",
            within: "",
        },
        &old["control"],
        &new["control"],
    );
    lists(
        &mut changes,
        &List {
            kind: "listener",
            id: "name",
            within: "",
        },
        &old["listener"],
        &new["listener"],
    );
    lists(
        &mut changes,
        &List {
            kind: "pool",
            id: "name",
            within: "",
        },
        &old["pool"],
        &new["pool"],
    );
    changes
}

/// A list of tables whose entries are known by the key `id`.
struct List<'a> {
    kind: &'a str,
    id: &'a str,
    /// The place that holds the list; empty for the file.
    within: &'a str,
}

impl List<'_> {
    fn change(&self, name: &str, what: &str) -> Change {
        let (place, what) = match self.within {
            "" => (format!("{} {name}", self.kind), what.to_owned()),
            within => (within.to_owned(), format!("{} {name} {what}", self.kind)),
        };
        Change {
            place,
            what,
            needs_restart: false,
        }
    }
}

fn lists(changes: &mut Vec<Change>, list: &List<'_>, old: &Value, new: &Value) {
    let entries = |v: &'_ Value| -> Vec<(String, Value)> {
        let named = |v: &Value| {
            (
                v[list.id].as_str().unwrap_or_default().to_owned(),
                v.clone(),
            )
        };
        v.as_array().into_iter().flatten().map(named).collect()
    };
    let (old, new) = (entries(old), entries(new));
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (
        old.iter().map(|(n, v)| (n, v)).collect(),
        new.iter().map(|(n, v)| (n, v)).collect(),
    );
    for (name, _) in old.iter().filter(|(name, _)| !after.contains_key(name)) {
        changes.push(list.change(name, "removed"));
    }
    for (name, entry) in &new {
        let Some(previous) = before.get(name) else {
            // The address says more than the name, unless they are the same.
            let what = match entry["addr"].as_str() {
                Some(addr) if addr != name => format!("{addr} added"),
                _ => "added".to_owned(),
            };
            changes.push(list.change(name, &what));
            continue;
        };
        match list.within {
            "" => keys(
                changes,
                &format!("{} {name}", list.kind),
                "",
                previous,
                entry,
            ),
            within => keys(
                changes,
                within,
                &format!("{} {name} ", list.kind),
                previous,
                entry,
            ),
        }
    }
    let common = |a: &[(String, Value)], other: &BTreeMap<_, _>| -> Vec<String> {
        a.iter()
            .filter(|(name, _)| other.contains_key(name))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let order = common(&new, &before);
    if common(&old, &after) != order {
        let place = if list.within.is_empty() {
            list.kind
        } else {
            list.within
        };
        let what = format!("{}s are in another order: {}", list.kind, order.join(", "));
        changes.push(Change {
            place: place.to_owned(),
            what,
            needs_restart: false,
        });
    }
}

/// The changed keys of one table.
fn keys(changes: &mut Vec<Change>, place: &str, prefix: &str, old: &Value, new: &Value) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    flatten(&mut before, "", old);
    flatten(&mut after, "", new);
    let mut told = BTreeSet::new();
    for (key, _) in after.iter().chain(&before) {
        if !told.insert(key.clone()) {
            continue;
        }
        let find = |list: &[(String, Value)]| {
            list.iter()
                .find(|(k, _)| k == key)
                .map_or(Value::Null, |(_, value)| value.clone())
        };
        let (was, is) = (find(&before), find(&after));
        if was != is {
            changes.push(Change {
                place: place.to_owned(),
                what: format!("{prefix}{key} {} → {}", show(&was), show(&is)),
                needs_restart: AT_START.contains(&format!("{place}.{key}").as_str()),
            });
        }
    }
    if let (Some(_), Some(_)) = (old.get("backend"), new.get("backend")) {
        lists(
            changes,
            &List {
                kind: "backend",
                id: "name",
                within: place,
            },
            &old["backend"],
            &new["backend"],
        );
    }
}

/// `timeout.connect` and `1s`, for each value of a tree; a list is one value, and backends are left out.
fn flatten(into: &mut Vec<(String, Value)>, path: &str, value: &Value) {
    match value {
        Value::Object(table) => {
            for (key, value) in table
                .iter()
                .filter(|(key, _)| !(path.is_empty() && *key == "backend"))
            {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(into, &path, value);
            }
        }
        value => into.push((path.to_owned(), value.clone())),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(show).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(table) => table.values().map(show).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
