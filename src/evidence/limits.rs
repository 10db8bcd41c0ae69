//! Every bound of the evidence, with its unit in the name.
//!
//! Owns: numbers. A bound that is reached refuses or waits; none of them drops a record.

/// Longest frame of one record, prefix and padding included. What would be longer is refused before it is forwarded.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// What all lanes together may hold that the writer has not written yet, unless the settings say otherwise.
pub const QUEUE_BYTES_DEFAULT: u64 = 64 << 20;
/// The least that one lane's pool of byte credits holds, whatever the settings say.
pub const LANE_BUDGET_BYTES_MIN: usize = 1 << 20;
/// The most that one lane's pool of byte credits holds, whatever the settings say.
pub const LANE_BUDGET_BYTES_MAX: usize = 64 << 20;
/// The least that a record is charged. Slots of the ring = budget / this, so a push that holds credits always fits.
pub const CHARGE_BYTES_MIN: usize = 1 << 10;
/// Records that the writer takes at most before it writes.
pub const BATCH_RECORDS_MAX: usize = 256;
/// Bytes that the writer takes at most before it writes (one record may exceed it alone).
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// A record from this length on is written from where its session put it; shorter ones are gathered first, to save calls.
pub const LARGE_RECORD_BYTES: usize = 16 << 10;
/// Frames of rows or COPY data that one record holds at most, bytes.
pub const CAPTURED_BYTES_MAX: usize = 256 << 10;
/// A block is sealed when its records reach this many bytes, or by the end of a batch.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Written bytes that may stand unsynced when nobody asks for durability.
pub const UNSYNCED_BYTES_MAX: u64 = 8 << 20;
/// How long written bytes may stand unsynced when nobody asks for durability, unless the settings say otherwise.
pub const SYNC_INTERVAL_MS_DEFAULT: u64 = 100;
/// How long the writer dozes between looks while only queued records come in: the latency of an unsynced write.
pub const DOZE_MS: u64 = 4;
/// Dozes without a record after which the writer sleeps until it is woken.
pub const DOZES_UNTIL_SLEEP: u32 = 250;
/// Records waiting in a lane at which a dozing writer is woken even though none of them asks for durability.
pub const WAKE_RECORDS: usize = 192;
/// How long a session waits for byte credits, unless the settings say otherwise.
pub const STALL_LIMIT_MS_DEFAULT: u64 = 5_000;
/// Smallest size of a segment that is accepted.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Largest size of a segment that is accepted, and largest file that is read as one.
pub const SEGMENT_BYTES_MAX: u64 = 16 << 30;
/// Size of a segment, unless the settings say otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 256 << 20;
/// Free disk below which work is refused, unless the settings say otherwise.
pub const RESERVE_BYTES_DEFAULT: u64 = 1 << 30;
/// How often free disk is measured while records come in or work is refused.
pub const SPACE_CHECK_INTERVAL_MS: u64 = 1_000;
/// Piece in which a file is filled with zeros where the file system cannot reserve space.
pub const ZERO_FILL_BYTES: usize = 1 << 20;
/// First read buffer of the reader; it grows to the longest frame.
pub const READ_BUFFER_BYTES: usize = 1 << 20;
/// Judged texts of a session that its next statements are compared with; a text that is not among them is recorded anew.
pub const RECENT_TEXTS_MAX: usize = 8;
/// Longest text that is kept for this comparison.
pub const RECENT_TEXT_BYTES_MAX: usize = 4 << 10;
/// How long a start waits for the directory's lock: a child that an ending gateway was just starting holds a copy until
/// it executes.
pub const LOCK_PATIENCE_MS: u64 = 500;
/// Pause between two tries for the lock.
pub const LOCK_PAUSE_MS: u64 = 20;
/// How long an ordered end waits for records that hold credits but were not queued yet.
pub const FINISH_LIMIT_MS: u64 = 1_000;
/// Statements of one session that may be without their result at once; one more is refused.
pub const UNANSWERED_MAX: usize = 65_536;
/// The least that a sync waits for the records of siblings, where any are expected, microseconds.
pub const PATIENCE_US_MIN: u64 = 50;
/// The most that a sync waits for the records of siblings, microseconds.
pub const PATIENCE_US_MAX: u64 = 1_000;
/// How long siblings are remembered after the batch that they were seen in.
pub const SIBLINGS_FORGOTTEN_MS: u64 = 10;
/// Gated batches that are not waited with, at most, after waits that gained nobody.
pub const FRUITLESS_PAUSE_MAX: u32 = 64;
/// Zeros that are written ahead of the records while syncs are small: what follows overwrites written blocks, and its
/// sync need not write the inode too (an extent that `fallocate` left unwritten has to be converted).
pub const RUNWAY_BYTES: u64 = 256 << 10;
/// Written bytes in a sync above which it is no small one: zeros ahead of such would cost more than they save.
pub const RUNWAY_SYNC_BYTES_MAX: u64 = 32 << 10;
/// Time between two checkpoints, unless the settings say otherwise.
pub const CHECKPOINT_EVERY_S_DEFAULT: u64 = 10;
/// Records between two checkpoints, unless the settings say otherwise.
pub const CHECKPOINT_EVERY_RECORDS_DEFAULT: u64 = 100_000;
/// How long the second place may miss its checkpoint before new work is refused, in checkpoint intervals …
pub const HEAD_OVERDUE_INTERVALS: u64 = 3;
/// … and at least so long.
pub const HEAD_OVERDUE_S_MIN: u64 = 30;
/// How often the wall clock is held against the one that never steps.
pub const CLOCK_LOOK_MS: u64 = 1_000;
/// A move of the wall clock between two looks that counts as a step: a clock that is slewed moves by 1 ms at most.
pub const CLOCK_STEP_MS: u64 = 100;
/// Ends of blocks that the verifier remembers to judge the next checkpoint in the log by: the writer never lags so far.
pub const BLOCK_ENDS_KEPT: usize = 1 << 18;
/// Bytes of a segment that one thread of a verification checks at a time.
pub const PIECE_BYTES: usize = 2 << 20;
