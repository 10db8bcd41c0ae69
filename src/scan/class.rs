//! What a column may hold, and how sure that is.
//!
//! Owns: the closed list of classes, the tier and the mask that each is proposed with. May not: look at a name or a value.
//! Every detector has its class; the others have no pattern and are known by the column's name and type alone.

use std::fmt;
use std::ops::RangeInclusive;

use pgturnstile_rules::mask::detect::Detector;
use pgturnstile_rules::policy::model::Mask;
use pgturnstile_rules::policy::object::Tier;
use serde::{Deserialize, Serialize};

/// What a match of a detector proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Chance makes none.
    Structure,
    /// A check digit: of the right length, chance makes one in twenty.
    CheckDigit,
    /// A form alone: any digits fit.
    Form,
    /// The class has no detector.
    None,
}

macro_rules! classes {
    ($( $(#[$doc:meta])* $name:ident = $word:literal, $tier:ident, $mask:ident, $proof:ident, $shapes:literal; )*) => {
        /// A class of content. The order is that of the reports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Class { $( $(#[$doc])* $name, )* }

        impl Class {
            /// All of them.
            pub const ALL: &'static [Class] = &[ $( Class::$name, )* ];

            /// The word of the reports.
            pub const fn name(self) -> &'static str {
                match self { $( Class::$name => $word, )* }
            }

            /// The tier of the label that is proposed.
            pub const fn tier(self) -> Tier {
                match self { $( Class::$name => Tier::$tier, )* }
            }

            /// Its mask, where the column is one of strings and its values are whole matches.
            pub const fn mask(self) -> Mask {
                match self { $( Class::$name => Mask::$mask, )* }
            }

            /// What a match proves.
            pub const fn proof(self) -> Proof {
                match self { $( Class::$name => Proof::$proof, )* }
            }

            /// Whether shapes of its values may be told: not of what opens something.
            pub const fn tells_shapes(self) -> bool {
                match self { $( Class::$name => $shapes, )* }
            }
        }
    };
}

classes! {
    /// A private key in PEM.
    PrivateKey = "private-key", Secret, Null, Structure, false;
    /// A connection string with a password.
    ConnectionString = "connection-string", Secret, Null, Structure, false;
    /// A JSON Web Token.
    Jwt = "jwt", Secret, Null, Structure, false;
    /// A token or key of a vendor.
    ApiKey = "api-key", Secret, Null, Structure, false;
    /// A password, a secret, or what is made of one.
    Password = "password", Secret, Null, None, false;
    /// A payment card.
    Card = "card", Secret, Last4, CheckDigit, true;
    /// A card's verification number.
    CardVerification = "card-verification", Secret, Null, None, false;
    /// An account number.
    Iban = "iban", Restricted, Last4, Structure, true;
    /// A United States social security number or ITIN.
    Ssn = "ssn", Restricted, Last4, Form, true;
    /// A national id with a check digit.
    NationalId = "national-id", Restricted, Last4, CheckDigit, true;
    /// A passport, a driver's licence, a tax number.
    IdentityDocument = "identity-document", Restricted, Null, None, true;
    /// Health.
    Health = "health", Restricted, Null, None, false;
    /// Salary, income.
    Income = "income", Restricted, Null, None, false;
    /// Religion, ethnicity, orientation.
    Belief = "belief", Restricted, Null, None, false;
    /// A telephone number.
    Phone = "phone", Personal, Last4, Form, true;
    /// An e-mail address.
    Email = "email", Personal, Domain, Structure, true;
    /// A person's name.
    PersonName = "person-name", Personal, Null, None, true;
    /// A postal address, or a part of one.
    PostalAddress = "postal-address", Personal, Null, None, true;
    /// A date of birth.
    BirthDate = "birth-date", Personal, Null, None, true;
    /// Where somebody is.
    Location = "location", Personal, Null, None, false;
    /// An address of a machine.
    NetworkAddress = "network-address", Personal, Null, None, true;
}

impl Class {
    /// The class of what a detector finds.
    pub fn of(detector: Detector) -> Self {
        match detector {
            Detector::PrivateKey => Class::PrivateKey,
            Detector::ConnectionString => Class::ConnectionString,
            Detector::Jwt => Class::Jwt,
            Detector::ApiKey => Class::ApiKey,
            Detector::Iban => Class::Iban,
            Detector::Card => Class::Card,
            Detector::Ssn => Class::Ssn,
            Detector::NationalId => Class::NationalId,
            Detector::Phone => Class::Phone,
            Detector::Email => Class::Email,
        }
    }

    /// How many digits a value has that is digits and separators alone, where the detector asks for a form that such values
    /// need not have.
    pub fn digits(self) -> Option<RangeInclusive<usize>> {
        (self.proof() == Proof::Form).then_some(if self == Class::Ssn { 9..=9 } else { 7..=15 })
    }

    /// How whole values are brought to one form before they become tokens, in the policy's word.
    pub fn canonical(self) -> Option<&'static str> {
        match (self.mask(), self) {
            (Mask::Domain, _) => Some("lower"),
            (Mask::Last4, Class::Iban) | (Mask::Null | Mask::Token, _) => None,
            (Mask::Last4, _) => Some("digits"),
        }
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The name alone, or a few matches of what chance makes too.
    Low,
    /// Some values match, or most match a form without a check digit.
    Medium,
    /// Most values match what chance does not make.
    High,
}

impl Confidence {
    /// The word of the reports.
    pub const fn name(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
