//! The operator's log: on standard error, for people or as JSON lines.
//!
//! Owns its format and filter. What is logged is the callers' duty: never a token, a password, a statement's text.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line an event, for people.
    Human,
    /// One JSON object an event.
    Json,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogOptions {
    /// How the log on standard error looks.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "PGTURNSTILE_LOG_FORMAT",
        default_value = "human",
        global = true
    )]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by module (info,pgturnstile::session=debug).
    #[arg(
        long = "log",
        value_name = "FILTER",
        env = "PGTURNSTILE_LOG",
        default_value = "info",
        value_parser = filter,
        global = true
    )]
    pub filter: String,
}

/// A filter that parses, or why not: a mistyped filter must not silence the log.
fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Starts logging. The first call of a process wins.
pub fn init(options: &LogOptions) {
    let filter = EnvFilter::new(&options.filter);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .log_internal_errors(false);
    // Both fail only when a subscriber is there already (tests); that one stays.
    let _first_wins = match options.log_format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
