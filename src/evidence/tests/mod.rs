//! Tests of the evidence as a whole: real directories, simulated disks, crashes.

mod directory;
mod samples;
