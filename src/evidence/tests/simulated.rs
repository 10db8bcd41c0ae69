//! A disk that forgets what was not synced, tears writes, and fails when told to.
//!
//! Content and names each have two states: what a running process sees, and what would be there after a power cut. A write
//! becomes durable by `sync_data`, a name by `sync_directory`; at a cut, any part of what is pending may or may not have
//! reached the disk, sector by sector.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::evidence::disk::{self, Claim, Disk, DiskFile};

/// What a sector holds.
const SECTOR_BYTES: usize = 512;

/// Deterministic randomness (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Pending::Length(length) => content.resize(*length, 0),
        }
    }
}

/// How a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call fails with this error.
    Error(io::ErrorKind),
    /// A write takes only so many bytes (and the next call succeeds).
    Short(usize),
}

type Inodes = Arc<Mutex<Inode>>;

#[derive(Default)]
struct State {
    names: BTreeMap<String, Inodes>,
    durable_names: BTreeMap<String, Inodes>,
    free_bytes: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    fault_met: Option<&'static str>,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct Simulated(Arc<Mutex<State>>);

struct File {
    disk: Simulated,
    inode: Inodes,
}

impl Simulated {
    pub(super) fn new() -> Simulated {
        let disk = Simulated::default();
        disk.0.lock().unwrap().free_bytes = u64::MAX;
        disk
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        self.0.lock().unwrap().free_bytes = bytes;
    }

    /// The `nth` changing call from now on (0 = the next) fails.
    pub(super) fn fail(&self, nth: u64, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        let at = state.calls + nth;
        state.fault = Some((at, fault));
        state.fault_met = None;
    }

    /// Which call met the fault.
    pub(super) fn fault_met(&self) -> Option<&'static str> {
        self.0.lock().unwrap().fault_met
    }

    fn step(&self, call: &'static str) -> Option<Fault> {
        let mut state = self.0.lock().unwrap();
        let now = state.calls;
        state.calls += 1;
        match state.fault {
            Some((at, fault)) if at == now => {
                state.fault_met = Some(call);
                Some(fault)
            }
            Some(_) | None => None,
        }
    }

    fn check(&self, call: &'static str) -> io::Result<()> {
        match self.step(call) {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(_)) | None => Ok(()),
        }
    }

    /// What a process sees of a file.
    pub(super) fn content(&self, name: &str) -> Option<Vec<u8>> {
        let inode = self.0.lock().unwrap().names.get(name).cloned()?;
        let content = inode.lock().unwrap().seen.clone();
        Some(content)
    }

    /// Replaces a file, durably: what somebody with an editor does.
    pub(super) fn replace(&self, name: &str, content: Vec<u8>) {
        let inode =
            Arc::new(Mutex::new(Inode { seen: content.clone(), durable: content, pending: Vec::new() }));
        let mut state = self.0.lock().unwrap();
        state.names.insert(name.to_owned(), Arc::clone(&inode));
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// A disk as a process that was killed leaves it: all that was written is there.
    pub(super) fn after_kill(&self) -> Simulated {
        let copy = Simulated::new();
        for (name, inode) in &self.0.lock().unwrap().names {
            copy.replace(name, inode.lock().unwrap().seen.clone());
        }
        copy
    }

    /// A disk as a power cut leaves it.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> Simulated {
        let copy = Simulated::new();
        let state = self.0.lock().unwrap();
        // Renames since the last sync of the directory are there together or not at all.
        let names = if dice.below(2) == 0 { &state.names } else { &state.durable_names };
        for (name, inode) in names {
            copy.replace(name, inode.lock().unwrap().torn(dice));
        }
        copy
    }

    /// A disk where the last pending write of each file reached it up to this byte, and all before it whole.
    pub(super) fn after_tear(&self, at: usize) -> Simulated {
        let copy = Simulated::new();
        for (name, inode) in &self.0.lock().unwrap().names {
            let inode = inode.lock().unwrap();
            let mut content = inode.durable.clone();
            for (number, pending) in inode.pending.iter().enumerate() {
                match pending {
                    Pending::Write { offset, bytes } if number + 1 == inode.pending.len() => {
                        let bytes = bytes[..at.min(bytes.len())].to_vec();
                        Pending::Write { offset: *offset, bytes }.apply(&mut content);
                    }
                    Pending::Write { .. } | Pending::Length(_) => pending.apply(&mut content),
                }
            }
            copy.replace(name, content);
        }
        copy
    }

    /// Bytes of the last write that no sync covers.
    pub(super) fn last_pending_bytes(&self, name: &str) -> usize {
        let inode = self.0.lock().unwrap().names[name].clone();
        let inode = inode.lock().unwrap();
        match inode.pending.last() {
            Some(Pending::Write { bytes, .. }) => bytes.len(),
            Some(Pending::Length(_)) | None => 0,
        }
    }
}

impl Inode {
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        // All, nothing, or each sector for itself.
        let mood = dice.below(3);
        for pending in &self.pending {
            match pending {
                Pending::Length(_) if mood > 0 => pending.apply(&mut content),
                Pending::Length(_) => {}
                Pending::Write { offset, bytes } => {
                    for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        let keep = mood == 1 || (mood == 2 && dice.below(2) == 0);
                        let take = if keep {
                            sector.len()
                        } else {
                            dice.below(2) as usize * dice.below(sector.len() as u64 + 1) as usize
                        };
                        let take = if mood == 0 { 0 } else { take };
                        let piece = Pending::Write {
                            offset: offset + number * SECTOR_BYTES,
                            bytes: sector[..take].to_vec(),
                        };
                        piece.apply(&mut content);
                    }
                }
            }
        }
        content
    }
}

impl Disk for Simulated {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.check("create")?;
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Inodes::default();
        state.names.insert(name.to_owned(), Arc::clone(&inode));
        Ok(Box::new(File { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.0.lock().unwrap().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(File { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check("rename")?;
        let mut state = self.0.lock().unwrap();
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check("remove")?;
        self.0.lock().unwrap().names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.check("sync_directory")?;
        let mut state = self.0.lock().unwrap();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().free_bytes)
    }

    fn found(&self, _name: &str) -> io::Result<Option<disk::Inode>> {
        Ok(None)
    }
}

impl File {
    fn change(&self, pending: Pending) {
        let mut inode = self.inode.lock().unwrap();
        pending.apply(&mut inode.seen);
        inode.pending.push(pending);
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let inode = self.inode.lock().unwrap();
        let there = inode.seen.get(offset as usize..).unwrap_or_default();
        let read = there.len().min(bytes.len());
        bytes[..read].copy_from_slice(&there[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let taken = match self.disk.step("write") {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short(most)) => most.min(bytes.len()),
            None => bytes.len(),
        };
        self.change(Pending::Write { offset: offset as usize, bytes: bytes[..taken].to_vec() });
        Ok(taken)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.disk.check("set_length")?;
        self.change(Pending::Length(bytes as usize));
        Ok(())
    }

    fn claim(&self, bytes: u64) -> io::Result<Claim> {
        self.disk.check("claim")?;
        let length = self.inode.lock().unwrap().seen.len().max(bytes as usize);
        self.change(Pending::Length(length));
        Ok(Claim::Reserved)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check("sync")?;
        let mut inode = self.inode.lock().unwrap();
        inode.durable = inode.seen.clone();
        inode.pending.clear();
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().seen.len() as u64)
    }

    fn inode(&self) -> io::Result<Option<disk::Inode>> {
        Ok(None)
    }
}
