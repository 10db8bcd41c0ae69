//! The database of the model: three tables and a setting, and what a select reads of them.

use std::collections::BTreeMap;

use super::sql::Sql;

/// SQLSTATE of an error.
pub type Code = &'static str;
/// One row, as text.
pub type Row = Vec<Option<String>>;

/// All that a transaction can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// `kv (k int PRIMARY KEY, v text)`.
    pub kv: BTreeMap<i32, Option<String>>,
    /// `late (k int UNIQUE DEFERRABLE INITIALLY DEFERRED)`.
    pub late: Vec<i32>,
    /// `trap (k int)`, with a user's trigger.
    pub trap: Vec<i32>,
    /// `application_name`.
    pub application_name: String,
}

/// What the tables hold before each pipeline.
pub const ROWS: [(i32, &str); 3] = [(1, "one"), (2, "two"), (3, "three")];

/// What the application is called at login.
pub const APPLICATION_NAME: &str = "conversation";

impl Data {
    /// As each pipeline finds it.
    pub fn initial() -> Self {
        Self {
            kv: ROWS.iter().map(|(k, v)| (*k, Some((*v).to_owned()))).collect(),
            late: Vec::new(),
            trap: Vec::new(),
            application_name: APPLICATION_NAME.into(),
        }
    }

    /// Whether the deferred constraint holds.
    pub fn late_holds(&self) -> bool {
        let mut sorted = self.late.clone();
        sorted.sort_unstable();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// One row more.
    pub fn add(&mut self, key: i32, value: Option<String>) -> Result<(), Code> {
        if self.kv.contains_key(&key) {
            return Err("23505");
        }
        self.kv.insert(key, value);
        Ok(())
    }

    /// What a select gives on this data, in order.
    pub fn select(&self, sql: &Sql, values: &[Option<String>]) -> Vec<Item> {
        let number = |n: i32| Item::Row(vec![Some(n.to_string())]);
        match sql {
            Sql::Number(n) => vec![number(i32::from(*n))],
            Sql::Rows(n) => (1..=i32::from(*n)).map(number).collect(),
            Sql::Read => {
                self.kv.iter().map(|(k, v)| Item::Row(vec![Some(k.to_string()), v.clone()])).collect()
            }
            Sql::Get => {
                let key = values.first().cloned().flatten().and_then(|key| key.parse::<i32>().ok());
                let found = key.and_then(|key| self.kv.get(&key));
                found.map(|v| Item::Row(vec![v.clone()])).into_iter().collect()
            }
            Sql::Divide(n) => {
                let divided = |x: i32| match x - i32::from(*n) {
                    0 => Item::Error("22012"),
                    by => number(10 / by),
                };
                (1..=3).map(divided).collect()
            }
            Sql::Umlaut => vec![Item::Row(vec![Some("ä".into())])],
            Sql::Sleep => vec![Item::Error("57014")],
            _ => Vec::new(),
        }
    }
}

/// One thing on the way through a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A row.
    Row(Row),
    /// The row that fails.
    Error(Code),
}
