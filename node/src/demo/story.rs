//! The story that the demo tells by itself: what happens when, and what to watch. Pure: told the time since the beginning.

use std::time::Duration;

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deed {
    /// Nothing: the first seconds, and the end.
    Watch,
    /// `standfast drain demo/b2 --rate 10/s`.
    Drain,
    /// `standfast undrain demo/b2`.
    Undrain,
    /// Broker b3 dies.
    Kill,
    /// Broker b3 lives again.
    Revive,
}

/// One chapter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Chapter {
    /// When it begins.
    pub at: Duration,
    /// What is done then.
    pub deed: Deed,
    /// What is done, in words.
    pub told: &'static str,
    /// What to watch.
    pub watch: &'static str,
}

/// The backend that is drained.
pub(super) const DRAINED: &str = "demo/b2";

/// Clients that the drain moves a second.
pub(super) const DRAIN_RATE: f64 = 10.0;

/// The place of the broker that dies.
pub(super) const KILLED: usize = 2;

/// The chapters, in their order.
pub(super) const STORY: [Chapter; 6] = [
    Chapter {
        at: Duration::ZERO,
        deed: Deed::Watch,
        told: "Clients come and go, and each comes back to the broker it was on.",
        watch: "\"came back\" counts what the clients themselves see; a drain of b2 comes next",
    },
    Chapter {
        at: Duration::from_secs(12),
        deed: Deed::Drain,
        told: "b2 is drained at 10 clients a second, as `drain demo/b2 --rate 10/s` does.",
        watch: "its connections go to 0, its homes stay: the clients are only away",
    },
    Chapter {
        at: Duration::from_secs(27),
        deed: Deed::Undrain,
        told: "b2 is back in service, as `undrain demo/b2` does.",
        watch: "whoever reconnects goes home to b2; nobody is cut for it",
    },
    Chapter {
        at: Duration::from_secs(47),
        deed: Deed::Kill,
        told: "Broker b3 dies: its connections are cut and its port refuses.",
        watch: "b3 is down within a second, and its clients are served by b1 and b2",
    },
    Chapter {
        at: Duration::from_secs(62),
        deed: Deed::Revive,
        told: "Broker b3 lives again, with nothing remembered.",
        watch: "a check finds it, and its clients go home as they reconnect",
    },
    Chapter {
        at: Duration::from_secs(82),
        deed: Deed::Watch,
        told: "That was the story. The commands above are yours to try.",
        watch: "what each does to this table; Ctrl-C ends everything",
    },
];

/// Where the story stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Story {
    next: usize,
}

impl Story {
    /// The next chapter, if its time has come. To be asked until there is none.
    pub fn due(&mut self, since: Duration) -> Option<&'static Chapter> {
        let chapter = STORY.get(self.next).filter(|chapter| chapter.at <= since)?;
        self.next += 1;
        Some(chapter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_is_told_once_and_in_order_however_late_the_clock() {
        let mut story = Story::default();
        assert_eq!(story.due(Duration::ZERO).map(|c| c.deed), Some(Deed::Watch));
        assert_eq!(story.due(STORY[1].at - Duration::from_millis(1)), None);
        let late = Duration::from_secs(3600);
        let rest: Vec<_> = std::iter::from_fn(|| story.due(late)).collect();
        assert_eq!(rest.len(), STORY.len() - 1);
        assert!(rest.is_sorted_by_key(|chapter| chapter.at));
        assert_eq!(story.due(late), None);
    }

    #[test]
    fn what_is_taken_away_is_given_back() {
        let deeds = STORY.map(|chapter| chapter.deed);
        let place = |deed| deeds.iter().position(|other| *other == deed);
        assert!(place(Deed::Drain) < place(Deed::Undrain));
        assert!(place(Deed::Kill) < place(Deed::Revive));
    }
}
