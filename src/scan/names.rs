//! What a column's name suggests.
//!
//! Owns: the list of words, and how an identifier is taken apart. May not: look at a value. A name is a hint: alone it gives
//! the lowest confidence.

use super::class::Class;

/// What a column's type leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Strings, JSON, arrays, and what is not known.
    Text,
    /// Whole numbers and decimals.
    Number,
    /// Dates and timestamps.
    Date,
    /// `inet`, `cidr`, `macaddr`.
    Network,
    /// Points and the like.
    Geometry,
    /// Bytes.
    Bytes,
    /// Nothing that a name could mean.
    Other,
}

impl Family {
    /// The family of a built-in type; others may hold text.
    pub fn of(type_oid: u32) -> Self {
        match type_oid {
            17 => Family::Bytes,
            20 | 21 | 23 | 700 | 701 | 790 | 1700 => Family::Number,
            1082 | 1114 | 1184 => Family::Date,
            650 | 774 | 829 | 869 => Family::Network,
            600..=604 | 628 | 718 => Family::Geometry,
            16 | 18 | 22 | 24 | 26..=30 | 1083 | 1186 | 1266 | 1560 | 1562 | 2202..=2206 | 2950 | 3220 => {
                Family::Other
            }
            _ => Family::Text,
        }
    }
}

/// Words that stand together in a name, and what they suggest in which types.
struct Hint {
    words: &'static [&'static str],
    class: Class,
    families: &'static [Family],
}

const TEXT: &[Family] = &[Family::Text];
const ANY: &[Family] = &[Family::Text, Family::Number];
const DATE: &[Family] = &[Family::Date, Family::Text];
const BYTES: &[Family] = &[Family::Text, Family::Bytes];
const PLACE: &[Family] = &[Family::Number, Family::Geometry, Family::Text];
const NETWORK: &[Family] = &[Family::Network, Family::Text];

const fn hint(words: &'static [&'static str], class: Class, families: &'static [Family]) -> Hint {
    Hint { words, class, families }
}

/// The first that fits decides: what is more exact stands before what is less.
const HINTS: &[Hint] = &[
    hint(&["private", "key"], Class::PrivateKey, BYTES),
    hint(&["connection", "string"], Class::ConnectionString, TEXT),
    hint(&["dsn"], Class::ConnectionString, TEXT),
    hint(&["jwt"], Class::Jwt, TEXT),
    hint(&["api", "key"], Class::ApiKey, TEXT),
    hint(&["apikey"], Class::ApiKey, TEXT),
    hint(&["access", "key"], Class::ApiKey, TEXT),
    hint(&["access", "token"], Class::ApiKey, TEXT),
    hint(&["refresh", "token"], Class::ApiKey, TEXT),
    hint(&["bearer", "token"], Class::ApiKey, TEXT),
    hint(&["password"], Class::Password, BYTES),
    hint(&["passwd"], Class::Password, BYTES),
    hint(&["passwort"], Class::Password, BYTES),
    hint(&["passphrase"], Class::Password, BYTES),
    hint(&["pwd"], Class::Password, BYTES),
    hint(&["secret"], Class::Password, BYTES),
    hint(&["iban"], Class::Iban, TEXT),
    hint(&["account", "number"], Class::Iban, TEXT),
    hint(&["card", "verification"], Class::CardVerification, ANY),
    hint(&["cvv"], Class::CardVerification, ANY),
    hint(&["cvv2"], Class::CardVerification, ANY),
    hint(&["cvc"], Class::CardVerification, ANY),
    hint(&["credit", "card"], Class::Card, ANY),
    hint(&["creditcard"], Class::Card, ANY),
    hint(&["card", "number"], Class::Card, ANY),
    hint(&["card", "no"], Class::Card, ANY),
    hint(&["cc", "number"], Class::Card, ANY),
    hint(&["pan"], Class::Card, ANY),
    hint(&["ssn"], Class::Ssn, ANY),
    hint(&["social", "security"], Class::Ssn, ANY),
    hint(&["national", "id"], Class::NationalId, ANY),
    hint(&["nhs", "number"], Class::NationalId, ANY),
    hint(&["cpf"], Class::NationalId, ANY),
    hint(&["cnpj"], Class::NationalId, ANY),
    hint(&["pesel"], Class::NationalId, ANY),
    hint(&["bsn"], Class::NationalId, ANY),
    hint(&["aadhaar"], Class::NationalId, ANY),
    hint(&["personnummer"], Class::NationalId, ANY),
    hint(&["passport"], Class::IdentityDocument, ANY),
    hint(&["driver", "license"], Class::IdentityDocument, ANY),
    hint(&["drivers", "license"], Class::IdentityDocument, ANY),
    hint(&["driving", "licence"], Class::IdentityDocument, ANY),
    hint(&["tax", "id"], Class::IdentityDocument, ANY),
    hint(&["tax", "number"], Class::IdentityDocument, ANY),
    hint(&["vat", "number"], Class::IdentityDocument, ANY),
    hint(&["diagnosis"], Class::Health, TEXT),
    hint(&["icd10"], Class::Health, TEXT),
    hint(&["blood", "type"], Class::Health, TEXT),
    hint(&["medication"], Class::Health, TEXT),
    hint(&["disability"], Class::Health, TEXT),
    hint(&["allergies"], Class::Health, TEXT),
    hint(&["salary"], Class::Income, ANY),
    hint(&["income"], Class::Income, ANY),
    hint(&["wage"], Class::Income, ANY),
    hint(&["gehalt"], Class::Income, ANY),
    hint(&["religion"], Class::Belief, TEXT),
    hint(&["ethnicity"], Class::Belief, TEXT),
    hint(&["sexual", "orientation"], Class::Belief, TEXT),
    hint(&["email"], Class::Email, TEXT),
    hint(&["e", "mail"], Class::Email, TEXT),
    hint(&["mail", "address"], Class::Email, TEXT),
    hint(&["phone"], Class::Phone, ANY),
    hint(&["telephone"], Class::Phone, ANY),
    hint(&["telefon"], Class::Phone, ANY),
    hint(&["mobile"], Class::Phone, ANY),
    hint(&["msisdn"], Class::Phone, ANY),
    hint(&["fax"], Class::Phone, ANY),
    hint(&["ip"], Class::NetworkAddress, NETWORK),
    hint(&["ip", "address"], Class::NetworkAddress, NETWORK),
    hint(&["mac", "address"], Class::NetworkAddress, NETWORK),
    hint(&["birth", "date"], Class::BirthDate, DATE),
    hint(&["birthdate"], Class::BirthDate, DATE),
    hint(&["birthday"], Class::BirthDate, DATE),
    hint(&["date", "of", "birth"], Class::BirthDate, DATE),
    hint(&["dob"], Class::BirthDate, DATE),
    hint(&["geburtsdatum"], Class::BirthDate, DATE),
    hint(&["first", "name"], Class::PersonName, TEXT),
    hint(&["firstname"], Class::PersonName, TEXT),
    hint(&["last", "name"], Class::PersonName, TEXT),
    hint(&["lastname"], Class::PersonName, TEXT),
    hint(&["full", "name"], Class::PersonName, TEXT),
    hint(&["fullname"], Class::PersonName, TEXT),
    hint(&["given", "name"], Class::PersonName, TEXT),
    hint(&["family", "name"], Class::PersonName, TEXT),
    hint(&["surname"], Class::PersonName, TEXT),
    hint(&["maiden", "name"], Class::PersonName, TEXT),
    hint(&["vorname"], Class::PersonName, TEXT),
    hint(&["nachname"], Class::PersonName, TEXT),
    hint(&["street"], Class::PostalAddress, TEXT),
    hint(&["address"], Class::PostalAddress, TEXT),
    hint(&["address2"], Class::PostalAddress, TEXT),
    hint(&["postal", "code"], Class::PostalAddress, ANY),
    hint(&["postcode"], Class::PostalAddress, ANY),
    hint(&["zip"], Class::PostalAddress, ANY),
    hint(&["zipcode"], Class::PostalAddress, ANY),
    hint(&["latitude"], Class::Location, PLACE),
    hint(&["longitude"], Class::Location, PLACE),
    hint(&["geolocation"], Class::Location, PLACE),
];

/// Words that turn a name into one about the thing, not of it: `email_status`, `phone_verified`, `password_changed`.
const ABOUT: &[&str] = &[
    "status",
    "state",
    "sent",
    "verified",
    "confirmed",
    "valid",
    "count",
    "flag",
    "type",
    "kind",
    "template",
    "enabled",
    "is",
    "has",
    "at",
    "attempts",
    "changed",
    "expires",
    "expired",
    "policy",
    "format",
    "subject",
    "version",
    "provider",
    "length",
];

/// What a name suggests for a type.
pub fn suggested(name: &str, family: Family) -> Option<Class> {
    let words = words(name);
    if words.iter().any(|word| ABOUT.contains(&word.as_str())) {
        return None;
    }
    let stands = |hint: &&Hint| {
        hint.families.contains(&family)
            && words
                .windows(hint.words.len())
                .any(|run| run.iter().zip(hint.words).all(|(word, of)| word == of))
    };
    let found = HINTS.iter().find(stands).map(|hint| hint.class);
    found.or((family == Family::Network).then_some(Class::NetworkAddress))
}

/// The words of an identifier, lower case: parted by what is no letter or digit, and by capitals behind small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for character in name.chars() {
        let parts = !character.is_alphanumeric() || character.is_uppercase() && small;
        small = character.is_lowercase() || character.is_numeric();
        match words.last_mut() {
            Some(last) if !parts || last.is_empty() => {
                last.extend(character.to_lowercase().filter(|c| c.is_alphanumeric()))
            }
            Some(_) | None => words.push(character.to_lowercase().filter(|c| c.is_alphanumeric()).collect()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, wanted) in [
            ("eMail", "e mail"),
            ("billing_Address2", "billing address2"),
            ("CustomerSSN", "customer ssn"),
            ("e-mail address", "e mail address"),
            ("__", ""),
            ("", ""),
            ("größe", "größe"),
        ] {
            assert_eq!(words(name).join(" "), wanted, "{name}");
        }
    }

    #[test]
    fn a_name_suggests_only_what_its_type_can_hold() {
        assert_eq!(suggested("email", Family::Text), Some(Class::Email));
        assert_eq!(suggested("user_email_address", Family::Text), Some(Class::Email));
        assert_eq!(suggested("email", Family::Other), None);
        assert_eq!(suggested("email_verified", Family::Text), None);
        assert_eq!(suggested("ip_address", Family::Network), Some(Class::NetworkAddress));
        assert_eq!(suggested("ip_address", Family::Text), Some(Class::NetworkAddress));
        assert_eq!(suggested("peer", Family::Network), Some(Class::NetworkAddress));
        assert_eq!(suggested("dateOfBirth", Family::Date), Some(Class::BirthDate));
        assert_eq!(suggested("company", Family::Text), None);
        assert_eq!(suggested("japan", Family::Text), None, "a word, not a part of one");
        assert_eq!(suggested("card_cvv", Family::Number), Some(Class::CardVerification));
    }
}
