//! Configurations as tests write them: placeholders, what every test needs, and lists of backends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::broker::FakeBroker;
use crate::ports;

/// `backends = […]` with the names `b1`, `b2`, … for scripted brokers.
#[must_use]
pub fn backends<'a>(brokers: impl IntoIterator<Item = &'a FakeBroker>) -> String {
    let addresses = brokers.into_iter().map(FakeBroker::addr);
    backends_at(addresses)
}

/// `backends = […]` with the names `b1`, `b2`, … for addresses.
#[must_use]
pub fn backends_at(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
    let entries = addresses.into_iter().enumerate();
    let entries: Vec<_> = entries
        .map(|(place, addr)| format!("{{ name = \"b{}\", addr = \"{addr}\" }}", place + 1))
        .collect();
    format!("backends = [{}]", entries.join(", "))
}

/// The configuration with placeholders replaced and what every test needs filled in.
pub(crate) fn complete(
    text: &str,
    dir: &Path,
    ports: &mut BTreeMap<String, u16>,
) -> Result<toml::Table> {
    let text = replace(text, dir, ports)?;
    let mut table: toml::Table = text.parse().context("the test's configuration")?;
    let path = |name: &str| toml::Value::from(dir.join(name).display().to_string());
    fill(&mut table, "node", "name", "test".into());
    fill(&mut table, "node", "threads", 2.into());
    fill(&mut table, "node", "state_dir", path("state"));
    fill(&mut table, "control", "socket", path("control.sock"));
    fill(&mut table, "log", "access", path("access.log"));
    fill(&mut table, "log", "access_format", "json".into());
    // Many instances at once: only one could have the page's default port.
    table.entry("web").or_insert_with(|| false.into());
    Ok(table)
}

/// Sets a key that is missing; a table written as a list (several control sockets) is left alone.
fn fill(table: &mut toml::Table, name: &str, key: &str, value: toml::Value) {
    let inner = table
        .entry(name)
        .or_insert_with(|| toml::Table::new().into());
    if let Some(inner) = inner.as_table_mut() {
        inner.entry(key).or_insert(value);
    }
}

fn replace(text: &str, dir: &Path, ports: &mut BTreeMap<String, u16>) -> Result<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (word, after) = after.split_once('}').context("a ${ without }")?;
        result.push_str(before);
        match word.split_once(':') {
            None if word == "dir" => result.push_str(&dir.display().to_string()),
            Some(("port", name)) => {
                let port = ports.entry(name.to_owned()).or_insert_with(ports::free);
                result.push_str(&port.to_string());
            }
            _ => bail!("unknown placeholder {word:?}"),
        }
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

pub(crate) fn first_socket(table: &toml::Table) -> Option<PathBuf> {
    let control = table.get("control")?;
    let first = control.get(0).unwrap_or(control);
    Some(first.get("socket")?.as_str()?.into())
}

/// The ports of all `listener[].bind`.
pub(crate) fn binds(table: &toml::Table) -> Vec<u16> {
    let listeners = table.get("listener").and_then(toml::Value::as_array);
    let binds = listeners
        .into_iter()
        .flatten()
        .filter_map(|listener| listener.get("bind"));
    binds
        .flat_map(|bind| match bind.as_array() {
            Some(several) => several.clone(),
            None => vec![bind.clone()],
        })
        .filter_map(|bind| bind.as_str()?.rsplit(':').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_completed_and_the_same_name_is_the_same_port() {
        let mut ports = BTreeMap::new();
        let text = r#"
            log = { level = "debug" }
            [[listener]]
            bind = ["127.0.0.1:${port:a}", ":${port:b}"]
            name = "${port:a} in ${dir}"
        "#;
        let table = complete(text, Path::new("/d"), &mut ports).expect("TOML");
        assert_eq!(table["log"]["level"].as_str(), Some("debug"));
        assert_eq!(table["log"]["access"].as_str(), Some("/d/access.log"));
        assert_eq!(binds(&table), [ports["a"], ports["b"]]);
        let name = table["listener"][0]["name"].as_str();
        assert_eq!(name, Some(format!("{} in /d", ports["a"]).as_str()));
        assert_eq!(first_socket(&table), Some("/d/control.sock".into()));
    }
}
