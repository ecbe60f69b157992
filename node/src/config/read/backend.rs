//! The backends of a pool, in both ways of writing them.

use toml::de::DeValue;

use super::check::{self, Written};
use crate::config::draft::{BackendAt, Draft};
use crate::config::model::{Backend, Mode};
use crate::config::reader::{Item, Table, number32, text};
use crate::config::sink::Sink;
use crate::config::value::{self, accepts};

/// Both ways of writing backends, with their places, and whether any could not be read.
pub(super) fn backends(
    table: &mut Table<'_, '_>,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
    pool_check: Option<&Written>,
    mode: Mode,
) -> (Vec<Backend>, Vec<BackendAt>, bool) {
    let items: Vec<_> = ["backends", "backend"]
        .into_iter()
        .filter_map(|key| table.take(key))
        .collect();
    let mut found = (Vec::new(), Vec::new(), false);
    for element in items.iter().flat_map(Item::elements) {
        match backend(&element, sink, draft, pool_check, mode) {
            Some((backend, at)) => {
                found.0.push(backend);
                found.1.push(at);
            }
            None => found.2 = true,
        }
    }
    if found.0.is_empty() && !found.2 {
        let at = items.first().map_or(&table.at, |item| &item.key_at);
        let help = "write backends = [\"10.0.0.11:1883\"], or [[pool.backend]] with addr = …";
        sink.absent(at, &table.path, "this pool has no backends", help);
    }
    found
}

fn backend(
    item: &Item<'_, '_>,
    sink: &mut Sink<'_>,
    draft: &mut Draft,
    pool_check: Option<&Written>,
    mode: Mode,
) -> Option<(Backend, BackendAt)> {
    let default = |(host, port)| Backend {
        name: String::new(),
        host,
        port,
        weight: 1,
        max_connections: None,
        backup: false,
        disabled: false,
        check: check::resolve(pool_check, None, mode),
    };
    if let DeValue::String(written) = item.value {
        let mut backend = default(item.read(sink, accepts::ADDR, text(value::addr))?);
        backend.name = written.to_string();
        let at = item.at.clone();
        return Some((
            backend,
            BackendAt {
                at: at.clone(),
                name_at: at.clone(),
                path: item.path.clone(),
                check_at: at,
                own_check: false,
            },
        ));
    }
    let mut table = item.table(sink, "an address, or a table { name, addr, weight, … }")?;
    let addr_item = table.take("addr");
    let name = table.read(sink, "name", accepts::NAME, text(value::name));
    let weight = table.read(
        sink,
        "weight",
        "a whole number from 0 to 256",
        number32(0, 256),
    );
    let max = table.read(
        sink,
        "max_connections",
        accepts::COUNT,
        number32(1, 100_000_000),
    );
    let (mut backup, mut disabled) = (false, false);
    table.switch(sink, "backup", &mut backup);
    table.switch(sink, "disabled", &mut disabled);
    let own = table
        .take("check")
        .and_then(|item| check::read(&item, sink, &mut draft.files));
    if let Some(own) = &own {
        check::http_only(own, pool_check, sink);
    }
    let addr = match &addr_item {
        None => {
            let help = format!("write addr = …, {}", accepts::ADDR);
            sink.absent(&table.at, &table.path, "this backend has no `addr`", help);
            None
        }
        Some(item) if matches!(item.value, DeValue::Table(_)) => {
            item.later(
                sink,
                "an address for each node needs a cluster, and a node works alone",
            );
            None
        }
        Some(item) => item.read(sink, accepts::ADDR, text(value::addr)),
    };
    let named = name.is_some();
    let at = BackendAt {
        at: table.at_key("addr"),
        name_at: table.at_key(if named { "name" } else { "addr" }),
        path: table.path.clone(),
        check_at: table.at_key("check"),
        own_check: own.is_some(),
    };
    table.finish(sink);
    let mut backend = default(addr?);
    let written = addr_item.as_ref().and_then(|item| item.value.as_str());
    backend.name = name.or(written.map(str::to_owned)).unwrap_or_default();
    backend.weight = weight.unwrap_or(1);
    backend.max_connections = max;
    backend.backup = backup;
    backend.disabled = disabled;
    backend.check = check::resolve(pool_check, own.as_ref(), mode);
    Some((backend, at))
}
