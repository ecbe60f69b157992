//! Names of backends as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::BackendRef;

/// Numbers are given once: a forgotten name that returns gets a new one, so no old entry points at it.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_ref: Vec<Option<Arc<str>>>,
    by_name: HashMap<Arc<str>, BackendRef>,
}

impl Names {
    pub(super) fn intern(&mut self, name: &str) -> BackendRef {
        if let Some(known) = self.find(name) {
            return known;
        }
        let number = u32::try_from(self.by_ref.len())
            .expect("a backend's name is a file's line, not 4 billion");
        let (name, backend) = (Arc::<str>::from(name), BackendRef(number));
        self.by_ref.push(Some(name.clone()));
        self.by_name.insert(name, backend);
        backend
    }

    pub(super) fn find(&self, name: &str) -> Option<BackendRef> {
        self.by_name.get(name).copied()
    }

    pub(super) fn name(&self, backend: BackendRef) -> Option<&Arc<str>> {
        self.by_ref.get(backend.0 as usize)?.as_ref()
    }

    pub(super) fn forget(&mut self, name: &str) -> Option<BackendRef> {
        let backend = self.by_name.remove(name)?;
        self.by_ref[backend.0 as usize] = None;
        Some(backend)
    }
}
