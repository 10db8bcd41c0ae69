//! What each detector finds, and what it leaves alone.

use super::*;

fn found(value: &str) -> Vec<(&'static str, String)> {
    find(&Detectors::all(Style::Fixed), value.as_bytes())
        .map(|m| (m.detector.name(), String::from_utf8_lossy(&value.as_bytes()[m.start..m.end]).into_owned()))
        .collect()
}

/// Words of which each is found whole by its detector, alone and in a sentence.
const FOUND: &[(&str, &str)] = &[
    ("card", "4111111111111111"),
    ("card", "4111-1111-1111-1111"),
    ("card", "4111.1111.1111.1111"),
    ("card", "5555 5555 5555 4444"),
    ("card", "3782 822463 10005"),
    ("card", "6011111111111117"),
    ("card", "3530111333300000"),
    ("card", "30569309025904"),
    ("card", "2223003122003222"),
    ("phone", "1-415-555-2671"),
    ("phone", "415-555-2671x4512"),
    ("phone", "+1-415-555-2671x123"),
    ("connection-string", "postgres://u:p;w'x@h/d"),
    ("connection-string", "password='secret 12'"),
    ("iban", "GB29NWBK60161331926819"),
    ("iban", "gb29 nwbk 6016 1331 9268 19"),
    ("iban", "DE89370400440532013000"),
    ("iban", "FR1420041010050500013M02606"),
    ("iban", "NL91ABNA0417164300"),
    ("iban", "NO9386011117947"),
    ("ssn", "123-45-6789"),
    ("ssn", "123 45 6789"),
    ("ssn", "912-70-1234"),
    ("national-id", "943 476 5919"),
    ("national-id", "130-692-502"),
    ("national-id", "529.982.247-25"),
    ("national-id", "52998224725"),
    ("national-id", "11.222.333/0001-81"),
    ("national-id", "44051401359"),
    ("national-id", "811218-9876"),
    ("national-id", "11010519491231002X"),
    ("national-id", "10000000146"),
    ("phone", "+49 30 90182099"),
    ("phone", "+14155550134"),
    ("phone", "+1 (415) 555-0134"),
    ("phone", "(415) 555-0134"),
    ("phone", "415.555.0134"),
    ("email", "ann.o-neil+tag@mail.example.co.uk"),
    ("email", "ANN@EXAMPLE.ORG"),
    ("email", "jürgen@müller.example"),
    ("api-key", "AKIAIOSFODNN7EXAMPLE"),
    ("api-key", "ghp_0123456789abcdefghijABCDEFGHIJ012345"),
    ("api-key", "glpat-0123456789abcdefghij"),
    ("api-key", "sk_live_0123456789abcdef"),
    ("api-key", "xoxb-123456789012-abcdefghijkl"),
    ("api-key", "AIza0123456789abcdefghijklmnopqrstuvwxy"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"),
    ("connection-string", "postgres://ann:secret@db.example/crm"),
    ("connection-string", "mongodb+srv://u:p@h/?w=1"),
    ("connection-string", "password=hunter2"),
    ("private-key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
];

#[test]
fn each_is_found_alone_and_in_a_sentence() {
    for (detector, word) in FOUND {
        let expected = vec![(*detector, (*word).to_owned())];
        assert_eq!(found(word), expected);
        assert_eq!(found(&format!("see {word} there")), expected);
        assert_eq!(found(&format!("{{\"v\":\"{word}\"}}")), expected);
        assert_eq!(found(&format!("({word})")), expected, "({word})");
        assert_eq!(found(&format!("a\\n{word}\\n")), expected);
    }
}

#[test]
fn near_misses_are_left_alone() {
    for value in [
        "4111111111111112",                     // check digit
        "41111111111111111",                    // length
        "x4111111111111111",                    // part of a word
        "0.4111111111111111",                   // a fraction
        "4012345678901",                        // EAN-13, Luhn of 13 digits
        "1701254567890",                        // milliseconds
        "2003-2007-2014",                       // years
        "1 123 45 6789",                        // joined as its own groups are
        "550e8400-e29b-41d4-a716-446655440000", // a UUID
        "GB29NWBK60161331926818",
        "XX29NWBK60161331926819",
        "000-45-6789",
        "666-45-6789",
        "123-00-6789",
        "1-123-45-6789",
        "123-45-6789-1",
        "2026-11-21 04:50:17.123456+00",
        "192.168.100.200",
        "1234567890",
        "1732164617123456",
        "415-155-0134",
        "+0 30 90182099",
        "ann@localhost",
        "@example.org",
        "a@b",
        "AKIAIOSFODNN7EXAMPL",
        "task-0123456789abcdefghijklmnopqrstuvwxyz",
        "https://example.org/a@b",
        "https://example.org:8080/path",
        "eyJhbGciOiJIUzI1NiJ9.abc",
        "-----BEGIN CERTIFICATE-----",
    ] {
        assert_eq!(found(value), [], "{value}");
    }
}

/// What stands before a word must not hide it, unless it is a part of it; what stands behind must not either.
#[test]
fn neighbours_do_not_hide_a_word() {
    for (detector, before, word, behind) in [
        ("ssn", "row 12 ", "123-45-6789", ""),
        ("ssn", "2026-11-21 04:50:17 ", "123-45-6789", ""),
        ("ssn", "2026-11-21 ", "123-45-6789", ""),
        ("phone", "17 ", "415-555-0134", ""),
        ("national-id", "17 ", "52998224725", ""),
        ("card", "%B", "4111111111111111", "^DOE/JOHN^"),
        ("card", "E'C:\\", "4111111111111111", "'"),
        ("card", "\"\\u0001", "4111111111111111", "\""),
        ("email", "\\u00e9", "ann@example.org", ""),
        ("email", "cache:", "ann@example.org", "-42"),
        ("email", "", "ann@example.org", ".5"),
        ("email", "<", "ann@mail.example.org", "-.>"),
    ] {
        let value = format!("{before}{word}{behind}");
        assert_eq!(found(&value), [(detector, word.to_owned())], "{value}");
    }
    let two = found("pay 4111111111111111 123-45-6789 now");
    assert_eq!(two.iter().map(|(detector, _)| *detector).collect::<Vec<_>>(), ["card", "ssn"]);
}

/// In a column of numbers nothing can be replaced but the whole: only cards are, of lengths that are issued.
#[test]
fn numbers_are_only_taken_for_cards() {
    let number = |digits: &str| number(&Detectors::all(Style::Fixed), digits.as_bytes());
    for card in ["4111111111111111", "378282246310005", "30569309025904", "6212345678900000003"] {
        assert_eq!(number(card), Some(Detector::Card), "{card}");
    }
    for other in ["52998224725", "44051401359", "1701254567890", "4000000000006", "4111111111111112", ""] {
        assert_eq!(number(other), None, "{other}");
    }
    let cards_off = Detectors::NONE.with(Detector::Email, Style::Fixed);
    assert_eq!(super::number(&cards_off, b"4111111111111111"), None);
}

/// The sweep must lead to everything that a detector finds.
#[test]
fn every_match_holds_a_candidate() {
    for (_, word) in FOUND {
        let bytes = word.as_bytes();
        let number = pgturnstile_sweep::Candidates::new(bytes).any(|candidate| match candidate {
            pgturnstile_sweep::Candidate::At(_) => true,
            pgturnstile_sweep::Candidate::Run(start) => plausible_run(bytes, start),
        });
        assert!(number || Anchors::get().next(bytes, 0).is_some(), "{word}");
    }
}

#[test]
fn detectors_are_switched_one_by_one() {
    for detector in Detector::ALL {
        let one = Detectors::NONE.with(*detector, Style::Fixed);
        for (name, word) in FOUND {
            let matches: Vec<Match> = find(&one, word.as_bytes()).collect();
            assert!(matches.iter().all(|m| m.detector == *detector));
            assert!(*name != detector.name() || matches.len() == 1, "{word}");
        }
    }
    assert!(Detectors::NONE.is_empty());
}
