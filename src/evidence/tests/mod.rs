//! Tests of the evidence as a whole: real directories, simulated disks, crashes, forgers, golden files.

mod checkpoints;
mod crash;
mod directory;
mod forgery;
mod golden;
mod golden_holds;
mod golden_rows;
mod golden_sealed;
mod golden_signed;
mod golden_tickets;
mod kill;
mod lanes;
mod samples;
mod simulated;
mod twin;
