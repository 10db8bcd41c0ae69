//! The answer to AuthenticationMD5Password (PostgreSQL protocol chapter, "Start-up"; src/common/md5_common.c,
//! `pg_md5_encrypt`).
//!
//! Owns the computation only. MD5 protects nobody: servers of 18 warn of it and a later one will drop it. It is here
//! because roles whose passwords were set long ago have nothing else; [`super::login`] answers so inside TLS or over a
//! Unix socket only.

use md5::{Digest, Md5};
use zeroize::{Zeroize, Zeroizing};

/// `md5` and 32 hexadecimal digits.
const ANSWER_BYTES: usize = 35;

/// `"md5" + hex(md5(hex(md5(password + user)) + salt))`.
pub(super) fn answer(password: &[u8], user: &[u8], salt: [u8; 4]) -> Zeroizing<[u8; ANSWER_BYTES]> {
    let stored = hex(&[password, user]);
    let digits = hex(&[stored.as_slice(), &salt]);
    let mut answer = Zeroizing::new([0; ANSWER_BYTES]);
    for (slot, byte) in answer.iter_mut().zip(b"md5".iter().chain(digits.iter())) {
        *slot = *byte;
    }
    answer
}

/// The digest of the parts, in lower-case digits.
fn hex(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    let mut digest: [u8; 16] = hasher.finalize().into();
    let mut digits = Zeroizing::new([0; 32]);
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    for (slot, nibble) in digits.iter_mut().zip(nibbles) {
        *slot = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    }
    digest.zeroize();
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SELECT 'md5' || md5(md5('secret' || 'crm_reader') || 'salt')` on a server.
    #[test]
    fn the_answer_is_the_servers() {
        let answer = answer(b"secret", b"crm_reader", *b"salt");
        assert_eq!(std::str::from_utf8(answer.as_slice()).unwrap(), "md5e8e501dcb4b06c38e8485347c96ea7f9");
    }
}
