//! The figures of rules/README.md: what the detectors find of what they are for, how much of what they find is it, and how often
//! random ids are taken for something.
//!
//! Owns: makers of values, each with a check digit that is computed here and not by the detectors' code, and the tables. Every
//! run draws the same values. `cargo nextest run --release -p pgturnstile-rules figures` holds the tables of the README against
//! what is measured, and prints them with `--no-capture`.

use std::collections::BTreeMap;

use super::*;

/// Random digits and letters, the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }

    fn from(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length)
            .map(|_| char::from(alphabet[usize::try_from(self.next()).unwrap_or(0) % alphabet.len()]))
            .collect()
    }
}

/// One kind of random id, and the most of a thousand that may be taken for something.
type Ids = (&'static str, fn(&mut Random) -> String, f64);

const RANDOM_IDS: &[Ids] = &[
    ("8 digits", |r| r.from(b"0123456789", 8), 0.0),
    ("9 digits", |r| r.from(b"0123456789", 9), 0.0),
    ("10 digits", |r| r.from(b"0123456789", 10), 0.0),
    ("11 digits", |r| r.from(b"0123456789", 11), 60.0),
    ("12 digits", |r| r.from(b"0123456789", 12), 1.0),
    ("13 digits", |r| r.from(b"0123456789", 13), 30.0),
    ("15 digits", |r| r.from(b"0123456789", 15), 10.0),
    ("16 digits", |r| r.from(b"0123456789", 16), 40.0),
    ("18 digits", |r| r.from(b"0123456789", 18), 15.0),
    ("19 digits", |r| r.from(b"0123456789", 19), 40.0),
    ("milliseconds since 1970", |r| (1_600_000_000_000 + r.next() % 400_000_000_000).to_string(), 6.0),
    (
        "microseconds since 1970",
        |r| (1_600_000_000_000_000 + r.next() % 400_000_000_000_000).to_string(),
        0.0,
    ),
    (
        "UUIDs",
        |r| {
            let hex = |r: &mut Random, n| r.from(b"0123456789abcdef", n);
            format!("{}-{}-4{}-a{}-{}", hex(r, 8), hex(r, 4), hex(r, 3), hex(r, 3), hex(r, 12))
        },
        0.0,
    ),
    (
        "ddd-dd-dddd",
        |r| format!("{}-{}-{}", r.from(b"0123456789", 3), r.from(b"0123456789", 2), r.from(b"0123456789", 4)),
        1000.0,
    ),
    ("20 letters and digits", |r| r.from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 20), 0.1),
    ("40 hexadecimal digits", |r| r.from(b"0123456789abcdef", 40), 0.1),
    (
        "timestamps",
        |r| {
            format!(
                "20{:02}-{:02}-{:02} {:02}:00:00.{:06}+00",
                r.next() % 40,
                1 + r.next() % 12,
                1 + r.next() % 28,
                r.next() % 24,
                r.next() % 1_000_000
            )
        },
        0.0,
    ),
    ("amounts", |r| format!("{}.{:02}", r.next() % 100_000_000, r.next() % 100), 0.0),
];

const DIGITS: &[u8] = b"0123456789";
const BASE_64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// The digit that makes the sum of ISO/IEC 7812 a multiple of ten.
fn luhn_digit(digits: &str) -> u64 {
    let sum: u64 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u64::from(digit - b'0') * if place % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    (10 - sum % 10) % 10
}

/// The sum of digits times weights.
fn weighed(digits: &str, weights: impl Iterator<Item = u64>) -> u64 {
    digits.bytes().zip(weights).map(|(digit, weight)| u64::from(digit - b'0') * weight).sum()
}

fn card(random: &mut Random, prefix: &str, length: usize) -> String {
    let body = format!("{prefix}{}", random.from(DIGITS, length - 1 - prefix.len()));
    format!("{body}{}", luhn_digit(&body))
}

fn in_groups(text: &str, groups: &[usize], joint: &str) -> String {
    let mut at = 0;
    let parts = groups.iter().map(|group| {
        at += group;
        &text[at - group..at]
    });
    parts.collect::<Vec<_>>().join(joint)
}

fn iban(country: &str, body: &str) -> String {
    let figures: String = format!("{body}{country}00")
        .chars()
        .map(|char| if char.is_ascii_digit() { char.to_string() } else { (u32::from(char) - 55).to_string() })
        .collect();
    let rest = figures.bytes().fold(0_u64, |rest, digit| (rest * 10 + u64::from(digit - b'0')) % 97);
    format!("{country}{:02}{body}", 98 - rest)
}

fn ssn(random: &mut Random, joint: &str) -> String {
    let area = 1 + random.next() % 665;
    format!("{area:03}{joint}{:02}{joint}{:04}", 1 + random.next() % 99, 1 + random.next() % 9_999)
}

fn cpf(random: &mut Random) -> String {
    let mut digits = random.from(DIGITS, 9);
    for weight in [10, 11] {
        let rest = weighed(&digits, (2..=weight).rev()) * 10 % 11 % 10;
        digits.push_str(&rest.to_string());
    }
    digits
}

fn nhs(random: &mut Random) -> String {
    loop {
        let body = random.from(DIGITS, 9);
        let check = 11 - weighed(&body, (2..=10).rev()) % 11;
        if check != 10 {
            return format!("{body}{}", check % 11);
        }
    }
}

fn pesel(random: &mut Random) -> String {
    let (year, month, day) = (random.next() % 100, 1 + random.next() % 12, 1 + random.next() % 28);
    let body = format!("{year:02}{month:02}{day:02}{}", random.from(DIGITS, 4));
    let sum = weighed(&body, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3].into_iter());
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn personnummer(random: &mut Random) -> String {
    let (year, month, day) = (random.next() % 100, 1 + random.next() % 12, 1 + random.next() % 28);
    let body = format!("{year:02}{month:02}{day:02}{}", random.from(DIGITS, 3));
    format!("{}-{}{}", &body[..6], &body[6..], luhn_digit(&body))
}

fn area(random: &mut Random) -> u64 {
    [201, 212, 303, 415, 512, 617, 702, 808, 917][usize::try_from(random.next() % 9).unwrap_or(0)]
}

fn word(random: &mut Random) -> String {
    let length = 3 + usize::try_from(random.next() % 8).unwrap_or(0);
    random.from(LOWER, length)
}

fn jwt(random: &mut Random) -> String {
    format!("eyJ{}.eyJ{}.{}", random.from(BASE_64, 33), random.from(BASE_64, 60), random.from(BASE_64, 43))
}

type Make = fn(&mut Random) -> String;

/// What a detector is for, in the spellings that people and programs use, found or not; and what looks like it and is none.
struct Trial {
    detector: Detector,
    spellings: &'static [(&'static str, Make)],
    near: &'static [(&'static str, Make)],
}

const TRIALS: &[Trial] = &[
    Trial {
        detector: Detector::Card,
        spellings: &[
            ("Visa", |r| card(r, "4", 16)),
            ("in fours", |r| in_groups(&card(r, "4", 16), &[4, 4, 4, 4], " ")),
            ("in fours with dashes", |r| in_groups(&card(r, "51", 16), &[4, 4, 4, 4], "-")),
            ("American Express", |r| card(r, "37", 15)),
            ("as printed on it", |r| in_groups(&card(r, "34", 15), &[4, 6, 5], " ")),
            ("UnionPay", |r| card(r, "62", 19)),
            ("two spaces", |r| in_groups(&card(r, "4", 16), &[4, 4, 4, 4], "  ")),
        ],
        near: &[
            ("16 random digits", |r| r.from(DIGITS, 16)),
            ("a wrong check digit", |r| {
                let card = card(r, "4", 16);
                let last = u64::from(card.as_bytes()[15] - b'0');
                format!("{}{}", &card[..15], (last + 1 + r.next() % 9) % 10)
            }),
            ("microseconds since 1970", |r| {
                (1_600_000_000_000_000 + r.next() % 400_000_000_000_000).to_string()
            }),
        ],
    },
    Trial {
        detector: Detector::Iban,
        spellings: &[
            ("German", |r| iban("DE", &r.from(DIGITS, 18))),
            ("British, in fours", |r| {
                let body = format!("NWBK{}", r.from(DIGITS, 14));
                in_groups(&iban("GB", &body), &[4, 4, 4, 4, 4, 2], " ")
            }),
            ("Dutch, small letters", |r| iban("NL", &format!("ABNA{}", r.from(DIGITS, 10))).to_lowercase()),
            ("glued to a word", |r| format!("IBAN{}", iban("DE", &r.from(DIGITS, 18)))),
        ],
        near: &[
            ("random check digits", |r| format!("DE{}", r.from(DIGITS, 20))),
            ("20 letters and digits", |r| r.from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 20)),
        ],
    },
    Trial {
        detector: Detector::Ssn,
        spellings: &[("dashes", |r| ssn(r, "-")), ("spaces", |r| ssn(r, " ")), ("together", |r| ssn(r, ""))],
        near: &[
            ("ddd-dd-dddd", |r| format!("{}-{}-{}", r.from(DIGITS, 3), r.from(DIGITS, 2), r.from(DIGITS, 4))),
            ("dates", |r| {
                format!("20{:02}-{:02}-{:02}", r.next() % 40, 1 + r.next() % 12, 1 + r.next() % 28)
            }),
        ],
    },
    Trial {
        detector: Detector::NationalId,
        spellings: &[
            ("BR, CPF as printed", |r| {
                let cpf = cpf(r);
                format!("{}.{}.{}-{}", &cpf[..3], &cpf[3..6], &cpf[6..9], &cpf[9..])
            }),
            ("BR, CPF together", cpf),
            ("GB, NHS", |r| in_groups(&nhs(r), &[3, 3, 4], " ")),
            ("PL, PESEL", pesel),
            ("SE", personnummer),
            ("GB, NHS together", nhs),
        ],
        near: &[
            ("11 random digits", |r| r.from(DIGITS, 11)),
            ("ddd ddd dddd", |r| in_groups(&r.from(DIGITS, 10), &[3, 3, 4], " ")),
            ("dddd dddd dddd", |r| in_groups(&r.from(DIGITS, 12), &[4, 4, 4], " ")),
            ("13 random digits", |r| r.from(DIGITS, 13)),
            ("dddddd-dddd", |r| format!("{}-{}", r.from(DIGITS, 6), r.from(DIGITS, 4))),
        ],
    },
    Trial {
        detector: Detector::Phone,
        spellings: &[
            ("+ and digits", |r| format!("+4930{}", r.from(DIGITS, 8))),
            ("+ and groups", |r| format!("+44 20 {} {}", r.from(DIGITS, 4), r.from(DIGITS, 4))),
            ("(ddd) ddd-dddd", |r| format!("({}) 555-{}", area(r), r.from(DIGITS, 4))),
            ("ddd-ddd-dddd", |r| format!("{}-555-{}", area(r), r.from(DIGITS, 4))),
            ("London, without +", |r| format!("020 7946 {}", r.from(DIGITS, 4))),
        ],
        near: &[
            ("ddd-ddd-dddd", |r| in_groups(&r.from(DIGITS, 10), &[3, 3, 4], "-")),
            ("10 digits", |r| r.from(DIGITS, 10)),
            ("versions", |r| format!("{}.{}.{}", r.next() % 40, r.next() % 100, r.next() % 10_000)),
        ],
    },
    Trial {
        detector: Detector::Email,
        spellings: &[
            ("plain", |r| format!("{}.{}@{}.example.org", word(r), word(r), word(r))),
            ("with a tag, capitals", |r| format!("{}+{}@{}.COM", word(r), word(r), word(r))),
            ("between brackets", |r| format!("<{}@{}.net>", word(r), word(r))),
            ("a quoted name", |r| format!("\"{} {}\"@{}.net", word(r), word(r), word(r))),
        ],
        near: &[
            ("@names", |r| format!("@{}", word(r))),
            ("hosts without a dot", |r| format!("{}@{}", word(r), word(r))),
            ("paths of packages", |r| {
                format!("@{}/{}@{}.{}", word(r), word(r), r.next() % 20, r.next() % 100)
            }),
        ],
    },
    Trial {
        detector: Detector::ApiKey,
        spellings: &[
            ("AWS", |r| format!("AKIA{}", r.from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))),
            ("GitHub", |r| format!("ghp_{}", r.from(BASE_64, 36))),
            ("Stripe", |r| format!("sk_live_{}", r.from(BASE_64, 24))),
            ("Slack", |r| format!("xoxb-{}-{}", r.from(DIGITS, 12), r.from(BASE_64, 24))),
            ("Google", |r| format!("AIza{}", r.from(BASE_64, 35))),
            ("npm", |r| format!("npm_{}", r.from(BASE_64, 36))),
        ],
        near: &[
            ("40 hexadecimal digits", |r| r.from(b"0123456789abcdef", 40)),
            ("names with dashes", |r| format!("task-{}-{}", word(r), r.from(DIGITS, 12))),
        ],
    },
    Trial {
        detector: Detector::Jwt,
        spellings: &[("signed", jwt), ("Bearer", |r| format!("Bearer {}", jwt(r)))],
        near: &[
            ("one part", |r| format!("eyJ{}", r.from(BASE_64, 60))),
            ("names with dots", |r| format!("{}.{}.{}", word(r), word(r), word(r))),
        ],
    },
    Trial {
        detector: Detector::ConnectionString,
        spellings: &[
            ("URL", |r| format!("postgres://{}:{}@{}:5432/{}", word(r), word(r), word(r), word(r))),
            ("password=", |r| format!("host={} password={}xy user={}", word(r), word(r), word(r))),
            ("ADO", |r| format!("Server={};Uid={};Pwd={};", word(r), word(r), word(r))),
        ],
        near: &[
            ("URLs", |r| format!("https://{}.example.org/{}?at={}", word(r), word(r), word(r))),
            ("URLs with a user", |r| format!("ssh://{}@{}.example.org/", word(r), word(r))),
        ],
    },
    Trial {
        detector: Detector::PrivateKey,
        spellings: &[("PEM", |r| {
            let body = r.from(BASE_64, 120);
            format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----")
        })],
        near: &[("certificates", |r| {
            let body = r.from(BASE_64, 120);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----")
        })],
    },
];

/// Where values stand.
const AROUND: &[(&str, &str)] =
    &[("", ""), ("see ", " there"), ("{\"v\":\"", "\"}"), ("2026-11-21 04:50:17 ", ", done"), ("v=", ";")];

/// How many of `count` values, in every surrounding in turn, the detector finds among all of them that are on.
fn found_of(detector: Detector, make: Make, count: u32, random: &mut Random) -> u32 {
    let all = Detectors::all(Style::Fixed);
    let mut hits = 0;
    for index in 0..count {
        let (before, behind) = AROUND[usize::try_from(index).unwrap_or(0) % AROUND.len()];
        let value = format!("{before}{}{behind}", make(random));
        hits += u32::from(find(&all, value.as_bytes()).any(|found| found.detector == detector));
    }
    hits
}

fn precision_and_recall() -> String {
    const EACH: u32 = 2_000;
    let mut random = Random(7);
    let mut table = "| detector | recall | not found | precision | of what looks like it, found |\n|---|---|---|---|---|\n".to_owned();
    for Trial { detector, spellings, near } in TRIALS {
        let (mut right, mut missed) = (0, Vec::new());
        for (name, make) in *spellings {
            let found = found_of(*detector, *make, EACH, &mut random);
            right += found;
            if found < EACH / 2 {
                missed.push(*name);
            }
        }
        let all = EACH * u32::try_from(spellings.len()).unwrap_or(1);
        let (mut wrong, mut taken) = (0, Vec::new());
        for (name, make) in *near {
            let found = found_of(*detector, *make, EACH, &mut random);
            wrong += found;
            taken.push(format!("{name} {:.1} %", percent(found, EACH)));
        }
        // As many of what it is for as of what only looks like it.
        let scale = f64::from(all) / f64::from(EACH * u32::try_from(near.len()).unwrap_or(1));
        let precision = 100.0 * f64::from(right) / (f64::from(right) + f64::from(wrong) * scale);
        let missed = if missed.is_empty() { String::new() } else { missed.join(", ") };
        table.push_str(&format!(
            "| `{}` | {:.1} % | {missed} | {precision:.1} % | {} |\n",
            detector.name(),
            percent(right, all),
            taken.join(", ")
        ));
    }
    table
}

fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole)
}

fn false_hits() -> String {
    const EACH: u32 = 100_000;
    let mut random = Random(42);
    let mut table = "| random ids | taken for something, of 1,000 | as |\n|---|---|---|\n".to_owned();
    let thousandth = |count: u32| f64::from(count) * 1_000.0 / f64::from(EACH);
    for (name, make, most) in RANDOM_IDS {
        let (mut hits, mut by) = (0_u32, BTreeMap::<&str, u32>::new());
        for _ in 0..EACH {
            let id = make(&mut random);
            let matches: Vec<Match> = find(&Detectors::all(Style::Fixed), id.as_bytes()).collect();
            hits += u32::from(!matches.is_empty());
            matches.iter().for_each(|m| *by.entry(m.detector.name()).or_default() += 1);
        }
        let by: Vec<String> =
            by.iter().map(|(name, count)| format!("{name} {:.1}", thousandth(*count))).collect();
        table.push_str(&format!("| {name} | {:.1} | {} |\n", thousandth(hits), by.join(", ")));
        assert!(thousandth(hits) <= *most, "{name}: {} of 1,000, at most {most}", thousandth(hits));
    }
    table
}

/// Prints the tables of rules/README.md, and holds them against it.
#[test]
fn figures_of_the_readme_are_true() {
    let readme = include_str!("../../../README.md");
    let tables = [precision_and_recall(), false_hits()];
    tables.iter().for_each(|table| println!("{table}"));
    for table in tables {
        assert!(readme.contains(&table), "rules/README.md does not hold this table:\n{table}");
    }
}
