//! Tests of the evidence as a whole: real directories, simulated disks, crashes.

mod crash;
mod directory;
mod samples;
mod simulated;
