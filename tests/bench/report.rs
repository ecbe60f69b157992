//! From visits to tables: medians, ratios within a round, and whether the goals are met.

mod figures;
mod goals;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::conduct::Visit;
use crate::options::Options;
use crate::peers::Kind;
use crate::scenario::{Placement, Scenario};
use figures::{Book, Figure, Spread};
use goals::Verdict;

/// All figures of a run.
pub(crate) struct Report<'a> {
    visits: &'a [Visit],
    peers: &'a [Kind],
    book: Book<'a>,
    verdicts: Vec<Verdict>,
}

/// A table's columns: what each holds, and its title.
type Columns = Vec<(Figure, String)>;

impl<'a> Report<'a> {
    pub(crate) fn new(visits: &'a [Visit], peers: &'a [Kind], options: &Options) -> Self {
        let book = Book::new(visits);
        let verdicts = goals::judge(&book, options);
        Self {
            visits,
            peers,
            book,
            verdicts,
        }
    }

    /// No visit was spoilt and no goal was missed; a goal that could not be judged is not missed.
    pub(crate) fn is_good(&self) -> bool {
        self.visits.iter().all(|visit| visit.invalid.is_empty())
            && self
                .verdicts
                .iter()
                .all(|verdict| verdict.met != Some(false))
    }

    pub(crate) fn text(&self, machine: &Machine, notes: &[String]) -> String {
        let mut out = String::new();
        let rounds = self
            .visits
            .iter()
            .map(|visit| visit.round + 1)
            .max()
            .unwrap_or(0);
        push(
            &mut out,
            &format!("{machine}\n\nRounds: {rounds}. Median (min–max)."),
        );
        for note in notes {
            push(&mut out, &format!("Note: {note}."));
        }
        self.table(
            &mut out,
            "CPU and memory of the proxy (`direct`: CPU of load and broker)",
            &costs(),
            |peer, figure| self.book.spread(peer, figure),
        );
        for base in [Kind::Haproxy, Kind::Nginx] {
            if self.peers.contains(&base) {
                let mut columns = costs();
                columns.extend(
                    latencies()
                        .into_iter()
                        .filter(|(figure, _)| figure.is_a_median()),
                );
                let title = format!("Ratios to {base} within the same round");
                self.table(&mut out, &title, &columns, |peer, figure| {
                    let is_itself = peer == base || peer == Kind::Direct;
                    (!is_itself)
                        .then(|| self.book.ratio(peer, base, figure))
                        .flatten()
                });
            }
        }
        self.table(&mut out, "Latency, µs", &latencies(), |peer, figure| {
            self.book.spread(peer, figure)
        });
        self.table(
            &mut out,
            "Rates, per second (bulk: MB, both directions)",
            &rates(),
            |peer, figure| self.book.spread(peer, figure),
        );
        self.silent(&mut out);
        self.spoilt(&mut out);
        push(&mut out, "\n### Goals\n");
        for verdict in &self.verdicts {
            push(&mut out, &verdict.to_string());
        }
        out
    }

    fn table(
        &self,
        out: &mut String,
        title: &str,
        columns: &Columns,
        cell: impl Fn(Kind, Figure) -> Option<Spread>,
    ) {
        let rows: Vec<(Kind, Vec<Option<Spread>>)> = self
            .peers
            .iter()
            .map(|&peer| {
                (
                    peer,
                    columns
                        .iter()
                        .map(|&(figure, _)| cell(peer, figure))
                        .collect::<Vec<_>>(),
                )
            })
            .filter(|(_, cells): &(_, Vec<Option<Spread>>)| cells.iter().any(Option::is_some))
            .collect();
        // Columns of scenarios that were not asked for.
        let used: Vec<bool> = (0..columns.len())
            .map(|column| rows.iter().any(|(_, cells)| cells[column].is_some()))
            .collect();
        if rows.is_empty() {
            return;
        }
        push(out, &format!("\n### {title}\n"));
        let titles = columns
            .iter()
            .zip(&used)
            .filter(|(_, used)| **used)
            .map(|((_, title), _)| title.clone());
        let titles: Vec<String> = titles.collect();
        push(out, &format!("| peer | {} |", titles.join(" | ")));
        push(out, &format!("|---|{}", "---|".repeat(titles.len())));
        for (peer, cells) in rows {
            let cells = cells.iter().zip(&used).filter(|(_, used)| **used);
            let cells: Vec<String> = cells
                .map(|(cell, _)| cell.map_or_else(|| "–".into(), |spread| spread.to_string()))
                .collect();
            push(out, &format!("| {peer} | {} |", cells.join(" | ")));
        }
    }

    fn silent(&self, out: &mut String) {
        let visits: Vec<&Visit> = self
            .visits
            .iter()
            .filter(|visit| visit.outcome.silent.is_some())
            .collect();
        if visits.is_empty() {
            return;
        }
        push(
            out,
            "\nBad connections, worst round: held when the noisy part began, and opened again because the proxy had closed them:\n",
        );
        for &peer in self.peers {
            let of_peer = visits
                .iter()
                .filter(|visit| visit.peer == peer)
                .filter_map(|visit| visit.outcome.silent);
            let held = of_peer.clone().map(|silent| silent.held).min();
            let reopened = of_peer.map(|silent| silent.reopened).max();
            if let (Some(held), Some(reopened)) = (held, reopened) {
                push(
                    out,
                    &format!("- {peer}: {held} held, {reopened} opened again"),
                );
            }
        }
    }

    fn spoilt(&self, out: &mut String) {
        let spoilt: Vec<&Visit> = self
            .visits
            .iter()
            .filter(|visit| !visit.invalid.is_empty())
            .collect();
        let total = self.visits.len();
        if spoilt.is_empty() {
            push(
                out,
                &format!(
                    "\nAll {total} visits are valid: no failed connection, no lost message, every DISCONNECT arrived."
                ),
            );
            return;
        }
        push(
            out,
            &format!(
                "\n**INVALID RUN**: {} of {total} visits are spoilt.\n",
                spoilt.len()
            ),
        );
        for visit in spoilt {
            push(
                out,
                &format!(
                    "- round {}, {} {}, {}: {}",
                    visit.round + 1,
                    visit.peer,
                    visit.scenario.name(),
                    visit.placement.name(),
                    visit.invalid.join("; ")
                ),
            );
        }
    }
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn costs() -> Columns {
    use Placement::{One, Own};
    use Scenario::{Bulk, Msg1, Msg100, Msg1000, Msg5000s, Setup};
    let cpu = |scenario, placement: Placement, title: &str| {
        (
            Figure::Cpu(scenario, placement),
            format!("{title}, {}, µs", placement.name()),
        )
    };
    vec![
        cpu(Setup, One, "connection"),
        cpu(Msg1, One, "message, 1 conn"),
        cpu(Msg1000, One, "message, 1000 conns"),
        cpu(Msg5000s, One, "message at 5000/s"),
        cpu(Setup, Own, "connection"),
        cpu(Msg100, Own, "message, 100 conns"),
        cpu(Msg1000, Own, "message, 1000 conns"),
        (Figure::Cpu(Bulk, Own), "bulk, ns/B".into()),
        (Figure::Idle, "idle, B/conn".into()),
        (Figure::Burst, "after burst".into()),
        (Figure::Again, "after another".into()),
        (Figure::IdleWithFiles, "idle with file pages".into()),
        (Figure::Rest, "process, MiB".into()),
    ]
}

fn latencies() -> Columns {
    use Placement::{One, Own};
    use Scenario::{Msg1, Msg5000s, Setup};
    let mut columns = Vec::new();
    for (scenario, placement, title) in [
        (Msg5000s, Own, "5000/s, own core"),
        (Msg5000s, One, "5000/s, one core"),
        (Msg1, One, "1 conn, one core"),
        (Setup, One, "connect, 64 at a time, one core"),
    ] {
        columns.push((Figure::P50(scenario, placement), format!("{title}, p50")));
        columns.push((Figure::P99(scenario, placement), format!("{title}, p99")));
    }
    columns.push((Figure::QuietP50, "good client alone, p50".into()));
    columns.push((Figure::QuietP99, "p99".into()));
    columns.push((Figure::NoisyP50, "among bad ones, p50".into()));
    columns.push((Figure::NoisyP99, "p99".into()));
    columns
}

fn rates() -> Columns {
    let all = Scenario::ALL.into_iter().flat_map(|scenario| {
        scenario.placements().iter().map(move |&placement| {
            (
                Figure::Rate(scenario, placement),
                format!("{}, {}", scenario.name(), placement.name()),
            )
        })
    });
    let fixed = [Scenario::Msg5000s, Scenario::Silent];
    all.filter(
        |(figure, _)| !matches!(figure, Figure::Rate(scenario, _) if fixed.contains(scenario)),
    )
    .collect()
}

/// A visit in one line, as it ends.
pub(crate) fn line(visit: &Visit) -> String {
    let mut line = format!(
        "{:>2} {:<10} {:<8} {}",
        visit.round + 1,
        visit.peer,
        visit.scenario.name(),
        visit.placement.name()
    );
    let mut add = |figure: Figure, unit: &str| {
        if let Some(value) = figure.of(visit) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {} {unit}", figures::short(value));
        }
    };
    add(Figure::Rate(visit.scenario, visit.placement), "/s");
    add(
        Figure::Cpu(visit.scenario, visit.placement),
        if visit.scenario == Scenario::Bulk {
            "ns/B"
        } else {
            "µs"
        },
    );
    add(Figure::P50(visit.scenario, visit.placement), "µs p50");
    add(Figure::Idle, "B idle");
    add(Figure::Burst, "B after burst");
    add(Figure::QuietP50, "µs alone");
    add(Figure::NoisyP50, "µs among bad ones");
    for words in &visit.invalid {
        let _ = write!(line, "  INVALID: {words}");
    }
    line
}

/// Where the figures hold.
pub(crate) struct Machine(String);

impl Machine {
    pub(crate) fn ask(options: &Options, peers: &[Kind]) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let value = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(": "))
                .map(|(_, v)| v)
        };
        // Not what this process may use: that is one core by now.
        let cores = cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        let mut text = format!(
            "Machine: {cores} × {} at {} MHz, Linux {}",
            value("model name").unwrap_or("unknown"),
            value("cpu MHz").unwrap_or("?"),
            kernel.trim()
        );
        for (kind, flag) in [
            (Kind::Standfast, "version"),
            (Kind::Haproxy, "-v"),
            (Kind::Nginx, "-v"),
        ] {
            let used = peers.contains(&kind)
                || (kind == Kind::Haproxy && peers.contains(&Kind::HaproxyRr));
            if let Some(program) = kind.program(options).filter(|_| used) {
                let output = Command::new(program).arg(flag).output();
                let said = output
                    .map(|output| [output.stdout, output.stderr].concat())
                    .unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                text.push_str("; ");
                text.push_str(said.lines().next().unwrap_or("unknown version").trim());
            }
        }
        Self(text)
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
