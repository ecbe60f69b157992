//! The sticky table of one pool as bytes on disk.
//!
//! ```text
//!  "SFSTICKY" | version u8 | key fingerprint u64 | taken at, ms u64
//!  records: id 16 | backend u32 | away u32 | since u64 | seen u64 | flags u8     41 bytes each
//!  names:   length u16 | UTF-8
//!  records u64 | names u32 | checksum u64 of all before it
//! ```
//!
//! Little endian; `away` is 2³² − 1 for none; flag 1 is "pinned". The names come last so that records can be written as the table
//! gives them. The checksum finds damage, not forgery.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::entry::Id;
use super::table::Record;

const MAGIC: &[u8; 8] = b"SFSTICKY";
const VERSION: u8 = 1;
const HEADER: usize = 8 + 1 + 8 + 8;
const RECORD: usize = 16 + 4 + 4 + 8 + 8 + 1;
const FOOTER: usize = 8 + 4 + 8;
const NOWHERE: u32 = u32::MAX;
const PINNED: u8 = 1;

/// A table as it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// [`super::entry::Hasher::fingerprint`] of the key that made the ids.
    pub fingerprint: u64,
    /// When it was taken, in ms of the clock of its records.
    pub taken: u64,
    /// The entries.
    pub records: Vec<Record>,
}

/// Why bytes are not a snapshot that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Damage {
    /// It does not begin like one.
    #[error("this is not a sticky snapshot")]
    Foreign,
    /// Written by another release.
    #[error("sticky snapshot of version {0}, this program reads version 1")]
    Version(u8),
    /// It ends too early, or its parts do not add up.
    #[error("the sticky snapshot is cut short or does not add up")]
    Shape,
    /// Bytes have changed.
    #[error("the sticky snapshot's checksum is wrong")]
    Checksum,
}

/// Writes a snapshot record by record.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    records: u64,
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Encoder {
    /// A snapshot taken at `taken` of ids made under the key with this `fingerprint`.
    pub fn new(fingerprint: u64, taken: u64) -> Self {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&fingerprint.to_le_bytes());
        out.extend_from_slice(&taken.to_le_bytes());
        Self {
            out,
            records: 0,
            names: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Adds one entry; its live connections are not written.
    ///
    /// A backend with a name beyond 65 535 bytes cannot be written, and its entries are left out.
    pub fn push(&mut self, record: &Record) {
        let Some(backend) = self.number(&record.backend) else {
            return;
        };
        let away = record
            .away
            .as_ref()
            .and_then(|name| self.number(name))
            .unwrap_or(NOWHERE);
        self.out.extend_from_slice(&record.id.0);
        self.out.extend_from_slice(&backend.to_le_bytes());
        self.out.extend_from_slice(&away.to_le_bytes());
        self.out.extend_from_slice(&record.since.to_le_bytes());
        self.out.extend_from_slice(&record.seen.to_le_bytes());
        self.out.push(if record.pinned { PINNED } else { 0 });
        self.records += 1;
    }

    /// The whole file.
    pub fn finish(mut self) -> Vec<u8> {
        for name in &self.names {
            // `number` took only names whose length fits.
            self.out
                .extend_from_slice(&(name.len() as u16).to_le_bytes());
            self.out.extend_from_slice(name.as_bytes());
        }
        self.out.extend_from_slice(&self.records.to_le_bytes());
        self.out
            .extend_from_slice(&(self.names.len() as u32).to_le_bytes());
        let checksum = checksum(&self.out);
        self.out.extend_from_slice(&checksum.to_le_bytes());
        self.out
    }

    fn number(&mut self, name: &Arc<str>) -> Option<u32> {
        if let Some(&known) = self.numbers.get(name) {
            return Some(known);
        }
        u16::try_from(name.len()).ok()?;
        let number = u32::try_from(self.names.len())
            .ok()
            .filter(|&number| number != NOWHERE)?;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        Some(number)
    }
}

/// Reads a snapshot. Damaged bytes are an error, and cost no more memory than their own length allows.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, Damage> {
    if !bytes.starts_with(MAGIC) {
        return Err(Damage::Foreign);
    }
    let version = *bytes.get(MAGIC.len()).ok_or(Damage::Shape)?;
    if version != VERSION {
        return Err(Damage::Version(version));
    }
    let (body, mut footer) = split_end(bytes, FOOTER)?;
    let records = take(&mut footer).map(u64::from_le_bytes)?;
    let names = take(&mut footer).map(u32::from_le_bytes)?;
    if take(&mut footer).map(u64::from_le_bytes)? != checksum(&bytes[..bytes.len() - 8]) {
        return Err(Damage::Checksum);
    }

    let mut header = body.get(MAGIC.len() + 1..).ok_or(Damage::Shape)?;
    let fingerprint = take(&mut header).map(u64::from_le_bytes)?;
    let taken = take(&mut header).map(u64::from_le_bytes)?;
    let length = usize::try_from(records)
        .ok()
        .and_then(|n| n.checked_mul(RECORD))
        .ok_or(Damage::Shape)?;
    let (rows, names_at) = body
        .get(HEADER..)
        .and_then(|rest| rest.split_at_checked(length))
        .ok_or(Damage::Shape)?;
    let names = read_names(names_at, names)?;
    let records = rows
        .chunks_exact(RECORD)
        .map(|row| read_record(row, &names))
        .collect::<Result<_, _>>()?;
    Ok(Snapshot {
        fingerprint,
        taken,
        records,
    })
}

fn read_names(mut bytes: &[u8], count: u32) -> Result<Vec<Arc<str>>, Damage> {
    let mut names = Vec::new();
    for _ in 0..count {
        let length = take(&mut bytes).map(u16::from_le_bytes)?;
        let (name, rest) = bytes.split_at_checked(length.into()).ok_or(Damage::Shape)?;
        names.push(std::str::from_utf8(name).map_err(|_| Damage::Shape)?.into());
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(names)
    } else {
        Err(Damage::Shape)
    }
}

fn read_record(mut row: &[u8], names: &[Arc<str>]) -> Result<Record, Damage> {
    let name = |number: u32| names.get(number as usize).cloned();
    let id = Id(take(&mut row)?);
    let backend = take(&mut row).map(u32::from_le_bytes)?;
    let away = take(&mut row).map(u32::from_le_bytes)?;
    let since = take(&mut row).map(u64::from_le_bytes)?;
    let seen = take(&mut row).map(u64::from_le_bytes)?;
    let [flags] = take(&mut row)?;
    Ok(Record {
        id,
        backend: name(backend).ok_or(Damage::Shape)?,
        away: if away == NOWHERE {
            None
        } else {
            Some(name(away).ok_or(Damage::Shape)?)
        },
        since,
        seen,
        live: 0,
        pinned: flags & PINNED != 0,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (head, rest) = bytes.split_first_chunk().ok_or(Damage::Shape)?;
    *bytes = rest;
    Ok(*head)
}

fn split_end(bytes: &[u8], length: usize) -> Result<(&[u8], &[u8]), Damage> {
    let at = bytes.len().checked_sub(length).ok_or(Damage::Shape)?;
    Ok(bytes.split_at(at))
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut state = SipHasher13::new_with_key(b"standfast sticky");
    state.write(bytes);
    state.finish()
}

#[cfg(test)]
mod tests;
