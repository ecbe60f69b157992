//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::peers::Kind;
use crate::scenario::Scenario;

/// Runs standfast, HAProxy and nginx under the same load and prints what they cost, as ratios.
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// Parsed for its help and its errors; the conductor parses the same words again.
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// The parts that the program plays for itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Start everything, visit everyone, print the tables.
    #[command(hide = true)]
    Conduct(Box<Options>),
    /// The stub broker; answers `stats` on standard input with a line of JSON.
    #[command(hide = true)]
    Broker {
        #[arg(long, value_delimiter = ',', required = true)]
        listen: Vec<SocketAddr>,
    },
    /// One visit; prints what came out as a line of JSON.
    #[command(hide = true)]
    Load { spec: String },
    /// Become another program, pinned to a core and bound to end with its parent.
    #[command(hide = true)]
    Launch {
        #[arg(long)]
        core: usize,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// What a person may choose.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How often everyone is visited; medians are over rounds.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Visits to everyone within a scenario and round, there and back: what drifts meanwhile cancels out.
    #[arg(long, default_value_t = 2)]
    pub(crate) passes: usize,
    /// Whom to visit, in the first round's order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    pub(crate) peers: Vec<Kind>,
    /// What to do on a visit.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    pub(crate) scenarios: Vec<Scenario>,
    /// Length of a measured window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Load before the window opens.
    #[arg(long, default_value_t = 0.3)]
    pub(crate) warmup: f64,
    /// Connections held in `idle`; a proxy needs two descriptors for each.
    #[arg(long, default_value_t = 9000)]
    pub(crate) idle: usize,
    /// Connections held in `silent`.
    #[arg(long, default_value_t = 5000)]
    pub(crate) silent: usize,
    /// One short round, to see that everything works; its figures mean little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Compare every echoed byte with what was sent. Costs the load generator time: for truth, not for figures.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Write every visit's raw outcome here.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// The proxy's core, and everyone's in the columns "one core".
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_core: usize,
    /// Where load and broker run in the columns "own core".
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// The standfast to measure.
    #[arg(long, default_value = "target/release/standfast")]
    pub(crate) standfast: PathBuf,
    /// The HAProxy to measure.
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    pub(crate) haproxy: PathBuf,
    /// The nginx to measure.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub(crate) nginx: PathBuf,
    /// nginx's stream module, where it is not built in.
    #[arg(long, default_value = "/usr/lib/nginx/modules/ngx_stream_module.so")]
    pub(crate) nginx_stream: PathBuf,
}

impl Options {
    /// With what the short forms stand for filled in.
    pub(crate) fn settled(mut self) -> Self {
        if self.quick {
            self.rounds = 1;
            self.passes = 1;
            self.seconds = self.seconds.min(0.3);
            self.warmup = self.warmup.min(0.1);
            self.idle = self.idle.min(1000);
            self.silent = self.silent.min(500);
        }
        self.rounds = self.rounds.max(1);
        self.passes = self.passes.max(1);
        self
    }
}
