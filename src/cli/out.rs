//! Where commands write: standard output and standard error, with colours where a terminal reads them.
//!
//! Owns the exit codes and the handling of a closed pipe: whoever reads `pgturnstile … | head` has seen enough, and the
//! command ends quietly. Secrets are never given to it.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done: the answer is yes.
    Yes = 0,
    /// Done: the answer is no (evidence that does not verify, a policy test that fails).
    No = 1,
    /// The command line, the configuration or the policy is wrong; nothing was started or changed.
    Usage = 2,
    /// The machine did not cooperate: a file, a socket, a disk.
    Trouble = 3,
    /// `hold wait`: it was denied.
    Denied = 10,
    /// `hold wait`: nobody decided in time.
    Expired = 11,
    /// `hold wait`: it was given up.
    Withdrawn = 12,
    /// `hold wait`: it was judged anew.
    Superseded = 13,
    /// `hold wait`: it still waits.
    TimedOut = 14,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Both outputs of a command.
pub struct Out<'w> {
    standard: Box<dyn Write + 'w>,
    error: Box<dyn Write + 'w>,
    colour: bool,
    error_colour: bool,
}

impl fmt::Debug for Out<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl Out<'static> {
    /// The process's own outputs. Standard output is buffered: [`Out::finish`] writes the rest.
    #[must_use]
    pub fn process() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !plain,
            error_colour: io::stderr().is_terminal() && !plain,
            standard: Box::new(BufWriter::new(io::stdout())),
            error: Box::new(io::stderr()),
        }
    }
}

impl<'w> Out<'w> {
    /// Outputs into buffers, without colours: for tests.
    #[must_use]
    pub fn captured(standard: &'w mut Vec<u8>, error: &'w mut Vec<u8>) -> Self {
        Self { standard: Box::new(standard), error: Box::new(error), colour: false, error_colour: false }
    }

    /// Whether standard output may carry ANSI colours.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Whether standard error may.
    #[must_use]
    pub fn err_colour(&self) -> bool {
        self.error_colour
    }

    /// Text to standard output as it is.
    ///
    /// # Errors
    /// The output cannot be written. Pass it on: [`Out::finish`] knows a closed pipe from a full disk.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.standard.write_all(text.as_bytes())
    }

    /// A line to standard output.
    ///
    /// # Errors
    /// As [`Out::write`].
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.standard, "{line}")
    }

    /// Bytes written so far reach the reader: for commands that go on for long.
    ///
    /// # Errors
    /// As [`Out::write`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.standard.flush()
    }

    /// A line to standard error. That it cannot be written is nobody's to hear.
    pub fn complain(&mut self, line: impl fmt::Display) {
        let _unheard = writeln!(self.error, "{}", line.to_string().trim_end());
    }

    /// Ends a command: writes what is buffered, and turns a failed write into an exit code. A closed pipe keeps the
    /// command's own answer where it has one, and is no trouble.
    #[must_use]
    pub fn finish(&mut self, outcome: io::Result<Exit>) -> Exit {
        let outcome = outcome.and_then(|exit| match self.standard.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit),
            flushed => flushed.map(|()| exit),
        });
        match outcome {
            Ok(exit) => exit,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Yes,
            Err(error) => {
                self.complain(format_args!("error: {error}"));
                Exit::Trouble
            }
        }
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.standard.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.standard.flush()
    }
}

/// A table for the eye, as wide as what stands in it: titles, each with whether its column stands to the right, and rows of
/// cells that are safe to print.
pub fn aligned(titles: &[(&str, bool)], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let head = titles.iter().map(|(title, _)| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width =
        |place: usize| rows.iter().filter_map(|row| Some(row.get(place)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for ((cell, (_, right)), width) in row.iter().zip(titles).zip(&widths) {
            let cell = if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The first characters of a text, with a mark where there are more.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// What a command says on both outputs, and its exit.
#[cfg(test)]
pub(super) fn told(run: impl FnOnce(&mut Out<'_>) -> io::Result<Exit>) -> (Exit, String, String) {
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let exit = run(&mut Out::captured(&mut said, &mut complained)).expect("memory takes everything");
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    (exit, text(said), text(complained))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::{Exit, Out};

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    fn failing(kind: io::ErrorKind, said: &mut Vec<u8>) -> Exit {
        let mut out = Out {
            standard: Box::new(Fails(kind)),
            error: Box::new(said),
            colour: false,
            error_colour: false,
        };
        let outcome = out.line("text").map(|()| Exit::Yes);
        out.finish(outcome)
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        let mut said = Vec::new();
        assert_eq!(failing(io::ErrorKind::BrokenPipe, &mut said), Exit::Yes);
        assert!(said.is_empty());
        assert_eq!(failing(io::ErrorKind::StorageFull, &mut said), Exit::Trouble);
        assert!(!said.is_empty());
    }

    #[test]
    fn a_pipe_that_closes_at_the_end_keeps_the_answer() {
        let mut said = Vec::new();
        let standard = Box::new(Fails(io::ErrorKind::BrokenPipe));
        let mut out = Out { standard, error: Box::new(&mut said), colour: false, error_colour: false };
        assert_eq!(out.finish(Ok(Exit::No)), Exit::No);
    }
}
