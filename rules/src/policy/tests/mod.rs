//! The policy as a whole: what loads, what is told of what does not, and what comes out.

mod labels;
mod load;
mod offline;
mod probes;
mod properties;
mod recording;
mod reference;
mod settings;
mod support;
mod twin;
mod verdicts;
