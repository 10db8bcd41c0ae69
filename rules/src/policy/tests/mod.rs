//! The policy as a whole: what loads, what is told of what does not, and what comes out.

mod load;
mod support;
mod verdicts;
