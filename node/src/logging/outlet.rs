//! A bounded queue with a thread behind it: who writes to a log never waits for a disk, a pipe or a daemon.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that wait at most: a second's worth on a busy node.
const DEPTH: usize = 16_384;

/// Bytes that may wait at most. Client ids may have 64 KiB, and the depth alone would allow a gigabyte of them.
const BYTES: usize = 32 << 20;

/// Items that are written in one go.
const BATCH: usize = 256;

/// How often dropped lines are spoken of.
const REPORT: Duration = Duration::from_secs(1);

/// What the thread does.
pub trait Work: Send + 'static {
    /// What is queued.
    type Item: Send + 'static;

    /// Bytes that an item holds beyond its own size.
    fn weight(item: &Self::Item) -> usize;

    /// Writes them all; answers how many were lost.
    fn write(&mut self, batch: &mut Vec<Self::Item>) -> u64;

    /// Opens its target again, if that is a file.
    fn reopen(&mut self);

    /// So many lines were lost since the last time; at most once a second.
    fn lost(&mut self, lines: u64);
}

/// What happened to lines; shared by all outlets of one log, so that the sums outlive a reload.
#[derive(Debug, Default)]
pub struct Tally {
    /// Given to their target.
    pub written: AtomicU64,
    /// Lost: the queue was full, or the target refused them.
    pub dropped: AtomicU64,
}

/// The writing end. Dropping the last one ends the thread after it has written what waits.
#[derive(Debug)]
pub struct Outlet<T> {
    queue: SyncSender<Job<T>>,
    held: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    tally: Arc<Tally>,
    weight: fn(&T) -> usize,
}

#[derive(Debug)]
enum Job<T> {
    Write(T),
    Reopen,
    Flush(SyncSender<()>),
}

impl<T: Send + 'static> Outlet<T> {
    /// Starts a thread with this name around `work`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start<W: Work<Item = T>>(name: &str, work: W, tally: Arc<Tally>) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(DEPTH);
        let held = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let reopen = Arc::new(AtomicBool::new(false));
        let desk = Desk {
            work,
            jobs,
            held: Arc::clone(&held),
            lost: Arc::clone(&lost),
            reopen: Arc::clone(&reopen),
            tally: Arc::clone(&tally),
            reported: None,
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || desk.run())?;
        Ok(Self {
            queue,
            held,
            lost,
            reopen,
            tally,
            weight: W::weight,
        })
    }

    /// Queues an item, or drops and counts it. Never waits.
    pub fn write(&self, item: T) {
        let weight = (self.weight)(&item);
        if self.held.fetch_add(weight, Relaxed) + weight > BYTES {
            self.held.fetch_sub(weight, Relaxed);
            self.drop_one();
            return;
        }
        if self.queue.try_send(Job::Write(item)).is_err() {
            self.held.fetch_sub(weight, Relaxed);
            self.drop_one();
        }
    }

    /// Opens the target again once what waits is written; where the queue is full, a little earlier. Never waits.
    pub fn reopen(&self) {
        if self.queue.try_send(Job::Reopen).is_err() {
            self.reopen.store(true, Relaxed);
        }
    }

    /// Waits until all that was queued before is written, or the deadline has come; says which.
    pub fn flush(&self, deadline: Instant) -> bool {
        let (done, is_done) = sync_channel(1);
        let mut job = Job::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(job) {
            if Instant::now() >= deadline {
                return false;
            }
            job = back;
            thread::sleep(Duration::from_millis(1));
        }
        is_done
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
    }

    fn drop_one(&self) {
        self.lost.fetch_add(1, Relaxed);
        self.tally.dropped.fetch_add(1, Relaxed);
    }
}

/// The thread's side.
struct Desk<W: Work> {
    work: W,
    jobs: Receiver<Job<W::Item>>,
    held: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    tally: Arc<Tally>,
    reported: Option<Instant>,
}

impl<W: Work> Desk<W> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            match self.jobs.recv_timeout(REPORT) {
                Ok(first) => self.gather(first, &mut batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.reopen.swap(false, Relaxed) {
                self.work.reopen();
            }
            self.report();
        }
        self.write(&mut batch);
    }

    /// Takes what has come since, up to a batch, and writes it.
    fn gather(&mut self, first: Job<W::Item>, batch: &mut Vec<W::Item>) {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write(item) => batch.push(item),
                Job::Reopen => {
                    self.write(batch);
                    self.work.reopen();
                }
                Job::Flush(done) => {
                    self.write(batch);
                    let _ = done.try_send(());
                }
            }
            if batch.len() >= BATCH {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        self.write(batch);
    }

    fn write(&mut self, batch: &mut Vec<W::Item>) {
        if batch.is_empty() {
            return;
        }
        let lines = batch.len() as u64;
        let weight = batch.iter().map(W::weight).sum();
        let lost = self.work.write(batch).min(lines);
        batch.clear();
        self.held.fetch_sub(weight, Relaxed);
        self.lost.fetch_add(lost, Relaxed);
        self.tally.dropped.fetch_add(lost, Relaxed);
        self.tally.written.fetch_add(lines - lost, Relaxed);
    }

    fn report(&mut self) {
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
        if due && self.lost.load(Relaxed) > 0 {
            self.work.lost(self.lost.swap(0, Relaxed));
            self.reported = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Writes into a list, when it is let in.
    struct Gate {
        door: Receiver<()>,
        wrote: Arc<Mutex<Vec<String>>>,
        lost: Arc<AtomicU64>,
    }

    impl Work for Gate {
        type Item = String;

        fn weight(item: &String) -> usize {
            item.capacity()
        }

        fn write(&mut self, batch: &mut Vec<String>) -> u64 {
            // An error means that the test has opened the door for good.
            let _ = self.door.recv();
            let refused = batch.iter().filter(|line| *line == "refuse").count();
            self.wrote.lock().append(batch);
            refused as u64
        }

        fn reopen(&mut self) {
            self.wrote.lock().push("reopened".into());
        }

        fn lost(&mut self, lines: u64) {
            self.lost.fetch_add(lines, Relaxed);
        }
    }

    struct Setting {
        outlet: Outlet<String>,
        door: SyncSender<()>,
        wrote: Arc<Mutex<Vec<String>>>,
        lost: Arc<AtomicU64>,
        tally: Arc<Tally>,
    }

    fn setting() -> Setting {
        let (door, opened) = sync_channel(0);
        let wrote = Arc::default();
        let lost = Arc::default();
        let tally = Arc::default();
        let work = Gate {
            door: opened,
            wrote: Arc::clone(&wrote),
            lost: Arc::clone(&lost),
        };
        Setting {
            outlet: Outlet::start("test", work, Arc::clone(&tally)).unwrap(),
            door,
            wrote,
            lost,
            tally,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_stuck_target_costs_lines_and_never_the_writer() {
        let s = setting();
        let all = DEPTH + BATCH + 1000;
        for n in 0..all {
            s.outlet.write(n.to_string());
        }
        let dropped = s.tally.dropped.load(Relaxed);
        assert!((1..=1000 + BATCH as u64).contains(&dropped), "{dropped}");
        assert!(
            !s.outlet.flush(Instant::now()),
            "nothing moves behind the door"
        );
        s.outlet.reopen();
        drop(s.door);
        assert!(s.outlet.flush(soon()));
        let written = s.tally.written.load(Relaxed);
        assert_eq!(
            written + dropped,
            all as u64,
            "each line is written or counted"
        );
        let reopened = s.wrote.lock().iter().filter(|l| *l == "reopened").count();
        assert_eq!(reopened, 1, "not forgotten, although the queue was full");
        assert_eq!(s.wrote.lock().len() as u64, written + 1);
        while s.lost.load(Relaxed) < dropped {
            assert!(Instant::now() < soon());
            thread::yield_now();
        }
    }

    #[test]
    fn huge_items_are_bounded_by_their_bytes() {
        let s = setting();
        for _ in 0..40 {
            s.outlet.write("x".repeat(1 << 20));
        }
        assert!(s.tally.dropped.load(Relaxed) >= 8);
        drop(s.door);
        assert!(s.outlet.flush(soon()));
        s.outlet.write("small again".into());
        assert!(s.outlet.flush(soon()));
        assert_eq!(s.wrote.lock().last().unwrap(), "small again");
    }

    #[test]
    fn reopening_keeps_its_place_among_the_lines() {
        let s = setting();
        drop(s.door);
        s.outlet.write("before".into());
        s.outlet.reopen();
        s.outlet.write("after".into());
        assert!(s.outlet.flush(soon()));
        assert_eq!(*s.wrote.lock(), ["before", "reopened", "after"]);
    }

    #[test]
    fn lines_that_the_target_refuses_are_counted() {
        let s = setting();
        drop(s.door);
        for line in ["a", "refuse", "b"] {
            s.outlet.write(line.into());
        }
        assert!(s.outlet.flush(soon()));
        assert_eq!(s.tally.dropped.load(Relaxed), 1);
        assert_eq!(s.tally.written.load(Relaxed), 2);
    }
}
