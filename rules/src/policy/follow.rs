//! Follows columns through a statement, where a label is near.
//!
//! Owns: which output is a bare labelled column, and the first labelled column that is used otherwise. May not: judge, or
//! know a row. Blunt on purpose: it finds at least as much as the server does, never less.
//!
//! - A bare name is looked for level by level outwards, as the server does (parse_relation.c, colNameToVar). Where the
//!   server may see less of a level than all of it (JOIN … ON, arguments in FROM, a sub-select that is not LATERAL), the
//!   level does not end the search: every level may be meant, and one labelled meaning suffices.
//! - A name that is no column can be a whole row, or a function of one: both count as every column of it.
//! - What is not known (a temporary relation's columns, a function's) never hides what is known behind it.
//! - Names that lead nowhere are a refusal, not a clean column.

mod meanings;
mod scope;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use self::meanings::Meanings;
use self::scope::{Ranged, Scope};
use crate::catalog::{Relation, Snapshot};
use crate::policy::labelled::{Hit, Labelled};
use crate::policy::outs::{Column, Origin, Out, Outs, SYSTEM_COLUMNS, TEXT_OID, Trouble};
use crate::resolve::{SearchPath, may_be_temporary};
use crate::statement::facts::NameUse;
use crate::statement::outline::{Gives, Item, Level, Output, Place, Query, Source, Use};

/// What [`Follow`] looks at.
pub(crate) struct Follow<'f> {
    pub(crate) labelled: &'f Labelled,
    pub(crate) snapshot: &'f Snapshot,
    pub(crate) path: &'f SearchPath,
    /// Unqualified names may mean temporary relations, whose columns are not known and hold nothing labelled.
    pub(crate) temp_possible: bool,
    /// The names of those; `None` where not all are known.
    pub(crate) temp_names: Option<&'f [Arc<str>]>,
    /// Labels that leave in clear for this subject, by relation.
    pub(crate) cleared: &'f dyn Fn(u32, Hit) -> bool,
    /// Only what is stored or leaves matters: a column may choose and order rows.
    pub(crate) stored_alone: bool,
    /// How much more may be looked at: see [`LOOKS_MAX`].
    pub(crate) looks: Cell<u32>,
}

/// Items of FROM that are looked at for the names of one statement, and columns that are listed (as [`LOOKS_A_COLUMN`] of them), at
/// most: what takes more is refused near a label, since a text can be made to take the square of its length, and stars over stars
/// double what they list with every level.
pub(crate) const LOOKS_MAX: u32 = 2_000_000;
/// What a column costs that is listed anew: it is held until the statement is judged.
const LOOKS_A_COLUMN: usize = 8;
/// Columns that a query can have (MaxTupleAttributeNumber, htup_details.h): the server refuses more.
const OUTPUTS_MAX: usize = 1_664;

/// Queries of WITH lists in scope, innermost first.
#[derive(Clone, Copy)]
struct Names<'n> {
    name: &'n str,
    outs: &'n Outs,
    outer: Option<&'n Names<'n>>,
}

type Found<T> = Result<T, Trouble>;

fn unfollowed<T>(why: impl Into<String>) -> Found<T> {
    Err(Trouble::Unfollowed(why.into()))
}

impl Follow<'_> {
    /// Takes that many looks off what is left.
    fn look(&self, looks: usize) -> Found<()> {
        match self.looks.get().checked_sub(u32::try_from(looks).unwrap_or(u32::MAX)) {
            Some(left) => {
                self.looks.set(left);
                Ok(())
            }
            None => unfollowed("it names more than is followed near a label"),
        }
    }

    /// Takes the cost of columns that are listed anew.
    fn list(&self, outs: &Outs) -> Found<()> {
        self.look(outs.list.len().saturating_mul(LOOKS_A_COLUMN))
    }

    /// The outputs of a whole statement.
    pub(crate) fn statement(&self, query: &Query) -> Found<Outs> {
        self.query(query, None, None)
    }

    /// The columns of a relation by name, with their labels: what COPY of it gives.
    pub(crate) fn relation(&self, name: &NameUse, listed: &[String]) -> Found<Outs> {
        let all = self.named(name)?;
        if listed.is_empty() {
            // COPY leaves generated columns out (copy.c, CopyGetAttnums).
            let schema = name.schema.as_deref();
            let generated = self.snapshot.relations().any(|(of, relation)| {
                *relation.name == *name.name
                    && schema.is_none_or(|schema| schema == of)
                    && relation
                        .columns
                        .iter()
                        .flat_map(|all| all.iter())
                        .any(|column| column.generated.is_some())
            });
            if generated && all.labelled().is_some() {
                return unfollowed("COPY leaves out generated columns; list the columns");
            }
            return Ok(all);
        }
        let mut list = Vec::with_capacity(listed.len());
        for name in listed {
            match all.list.iter().find(|out| out.name.as_deref() == Some(name)) {
                Some(out) => list.push(out.clone()),
                None if all.more => list.push(Out::computed(Some(name.as_str().into()))),
                None => return unfollowed(format!("a column {name:?} is not known")),
            }
        }
        Ok(Outs { list, more: false })
    }

    fn query(&self, query: &Query, outer: Option<&Scope<'_>>, names: Option<&Names<'_>>) -> Found<Outs> {
        let Query { with, recursive, arms: _, level: _ } = query;
        self.with(query, with, *recursive, outer, names)
    }

    /// Each query of the WITH list in turn, then what stands behind it.
    fn with(
        &self,
        query: &Query,
        left: &[crate::statement::outline::With],
        recursive: bool,
        outer: Option<&Scope<'_>>,
        names: Option<&Names<'_>>,
    ) -> Found<Outs> {
        if recursive {
            return self.recursive(query, left, outer, names);
        }
        let Some((first, rest)) = left.split_first() else { return self.body(query, outer, names) };
        let mut outs = self.query(&first.query, outer, names)?;
        outs.rename(&first.columns);
        let names = Names { name: &first.name, outs: &outs, outer: names };
        self.with(query, rest, false, outer, Some(&names))
    }

    /// WITH RECURSIVE: its queries see each other, so each is taken as clean, and must turn out so.
    fn recursive(
        &self,
        query: &Query,
        left: &[crate::statement::outline::With],
        outer: Option<&Scope<'_>>,
        names: Option<&Names<'_>>,
    ) -> Found<Outs> {
        let unknown = Outs::unknown();
        let Some((first, rest)) = left.split_first() else {
            for with in &query.with {
                let outs = self.query(&with.query, outer, names)?;
                if let Some(column) = outs.labelled() {
                    return Err(Trouble::Used(column, Place::SetOperation));
                }
            }
            return self.body(query, outer, names);
        };
        let names = Names { name: &first.name, outs: &unknown, outer: names };
        self.recursive(query, rest, outer, Some(&names))
    }

    fn body(&self, query: &Query, outer: Option<&Scope<'_>>, names: Option<&Names<'_>>) -> Found<Outs> {
        if query.arms.is_empty() {
            return self.level(&query.level, outer, names);
        }
        let mut first = None;
        for arm in &query.arms {
            let outs = self.query(arm, outer, names)?;
            if let Some(column) = outs.labelled() {
                return Err(Trouble::Used(column, Place::SetOperation));
            }
            first.get_or_insert(outs);
        }
        // ORDER BY and LIMIT of the whole see its outputs, which are clean, by name.
        let mut outs = first.unwrap_or_default();
        outs.list.iter_mut().for_each(|out| out.origin = None);
        let ranged = Ranged::new("", Outs { list: outs.list.clone(), more: outs.more });
        let scope = Scope { items: &[ranged], weak: false, outer };
        self.uses(&query.level, &outs, &scope, names)?;
        Ok(outs)
    }

    fn level(&self, level: &Level, outer: Option<&Scope<'_>>, names: Option<&Names<'_>>) -> Found<Outs> {
        if let Some(stores) = &level.stores {
            let outs = self.query(stores, outer, names)?;
            if let Some(column) = outs.labelled() {
                return Err(Trouble::Used(column, Place::Assigned));
            }
        }
        let (mut items, mut stars) = (Vec::new(), Vec::with_capacity(level.items.len()));
        let excluded = |item: &&Item| matches!(item.source, Source::Excluded);
        for item in level.items.iter().filter(|item| !excluded(item)) {
            stars.push(self.item(item, &mut items, outer, names)?);
        }
        for item in &level.hidden {
            self.item(item, &mut items, outer, names)?;
        }
        let outs = self.outputs(level, &Scope { items: &items, weak: false, outer }, &stars)?;
        // RETURNING does not see it.
        for item in level.items.iter().filter(excluded) {
            self.item(item, &mut items, outer, names)?;
        }
        self.uses(level, &outs, &Scope { items: &items, weak: false, outer }, names)?;
        Ok(outs)
    }

    /// Puts what an item of FROM can be named by into the scope; what it gives to a star.
    fn item(
        &self,
        item: &Item,
        items: &mut Vec<Ranged>,
        outer: Option<&Scope<'_>>,
        names: Option<&Names<'_>>,
    ) -> Found<Outs> {
        let Item { source, alias, columns } = item;
        let (name, mut outs) = match source {
            Source::Relation(name) => (name.name.as_str(), self.relation_or_with(name, names)?),
            Source::Target(name) => (name.name.as_str(), self.named(name)?),
            Source::Query { query, lateral } => {
                // What stands left of it is seen by LATERAL alone; it never hides what stands further out.
                let weak = Scope { items: if *lateral { items } else { &[] }, weak: true, outer };
                ("", self.query(query, Some(&weak), names)?)
            }
            Source::Join { sides, natural, using, using_alias } => {
                let before = items.len();
                let outs = self.join(sides, (*natural, using), items, outer, names)?;
                items.extend(using_alias.iter().map(|alias| Ranged::new(alias, Outs::unknown())));
                if alias.is_some() {
                    items.iter_mut().skip(before).for_each(|item| item.hidden = true);
                }
                ("", outs)
            }
            Source::Function => ("", Outs::unknown()),
            Source::Excluded => ("excluded", Outs::unknown()),
        };
        if !columns.is_empty() && outs.more && outs.labelled().is_some() {
            return unfollowed("columns are renamed by their place, and not all of them are known");
        }
        outs.rename(columns);
        let join = matches!(source, Source::Join { .. });
        // A join without an alias is named by its sides alone; they are in the scope already.
        if !join || alias.is_some() {
            self.list(&outs)?;
            items.push(Ranged::new(alias.as_deref().unwrap_or(name), outs.clone()));
        }
        Ok(outs)
    }

    fn join(
        &self,
        sides: &[Item; 2],
        (natural, using): (bool, &[String]),
        items: &mut Vec<Ranged>,
        outer: Option<&Scope<'_>>,
        names: Option<&Names<'_>>,
    ) -> Found<Outs> {
        let left = self.item(&sides[0], items, outer, names)?;
        let right = self.item(&sides[1], items, outer, names)?;
        let common: Vec<Rc<str>> = if natural {
            if left.more || right.more {
                return unfollowed("a NATURAL join of relations whose columns are not known");
            }
            // The server names it all the same, by a type, a function or a field (parse_target.c, FigureColname).
            if left.list.iter().chain(&right.list).any(|out| out.name.is_none()) {
                return unfollowed(
                    "a NATURAL join of an expression that the text gives no name; name it by AS",
                );
            }
            let both = |out: &&Out| right.list.iter().any(|other| other.name == out.name);
            left.list.iter().filter(both).filter_map(|out| out.name.clone()).collect()
        } else {
            using.iter().map(|name| Rc::from(name.as_str())).collect()
        };
        let is_common = |out: &Out| out.name.as_ref().is_some_and(|name| common.contains(name));
        for out in left.list.iter().chain(&right.list) {
            if let (true, Some(column)) = (is_common(out), out.column) {
                return Err(Trouble::Used(column, Place::Join));
            }
        }
        // Merged columns come first (parse_clause.c, transformFromClauseItem).
        let mut list: Vec<Out> = common.iter().map(|name| Out::computed(Some(name.clone()))).collect();
        let more = left.more || right.more;
        list.extend(left.list.into_iter().chain(right.list).filter(|out| !is_common(out)));
        let outs = Outs { list, more };
        self.list(&outs)?;
        Ok(outs)
    }

    fn relation_or_with(&self, name: &NameUse, names: Option<&Names<'_>>) -> Found<Outs> {
        if name.catalog.is_none() && name.schema.is_none() {
            let mut next = names;
            while let Some(with) = next {
                if with.name == name.name {
                    self.list(with.outs)?;
                    return Ok(with.outs.clone());
                }
                next = with.outer;
            }
        }
        self.named(name)
    }

    /// The columns of a relation. Where a name may mean several, none of them may be labelled.
    fn named(&self, name: &NameUse) -> Found<Outs> {
        let mut found: Vec<Outs> = Vec::new();
        match &name.schema {
            Some(schema) => {
                found.extend(
                    self.snapshot.relation(schema, &name.name).map(|relation| self.columns(relation)),
                );
                if schema.starts_with("pg_temp") {
                    found.push(Outs::unknown());
                }
            }
            None => {
                let catalog = std::iter::once("pg_catalog");
                let path = catalog.chain(self.path.schemas().map(|schema| &**schema));
                let mut seen: Vec<&str> = Vec::new();
                for schema in path {
                    if !seen.contains(&schema) {
                        seen.push(schema);
                        found.extend(
                            self.snapshot.relation(schema, &name.name).map(|relation| self.columns(relation)),
                        );
                    }
                }
                if may_be_temporary(self.temp_possible, self.temp_names, &name.name) {
                    found.push(Outs::unknown());
                }
            }
        }
        found.iter().try_for_each(|outs| self.list(outs))?;
        match <[Outs; 1]>::try_from(found) {
            Ok([one]) => Ok(one),
            Err(several) if several.iter().all(|outs| outs.labelled().is_none()) => Ok(Outs::unknown()),
            Err(_) => unfollowed(format!(
                "{:?} may mean several relations, one of them labelled; write it with its schema",
                name.name
            )),
        }
    }

    fn columns(&self, relation: &Relation) -> Outs {
        let Some(columns) = &relation.columns else { return Outs::unknown() };
        let hits = self.labelled.columns(relation.oid);
        let list = columns.iter().map(|column| {
            let hit = hits.and_then(|hits| hits.get(&column.number)).copied();
            let hit = hit.filter(|hit| !(self.cleared)(relation.oid, *hit));
            Out {
                name: Some(Rc::from(&*column.name)),
                column: hit.map(|hit| Column { relation: relation.oid, number: column.number, hit }),
                origin: Some((relation.oid, column.number)),
            }
        });
        Outs { list: list.collect(), more: false }
    }

    fn outputs(&self, level: &Level, scope: &Scope<'_>, stars: &[Outs]) -> Found<Outs> {
        let mut outs = Outs::default();
        for Output { alias, gives } in &level.outputs {
            match gives {
                Gives::Expression => {
                    outs.list.push(Out::computed(alias.as_deref().map(Rc::from)));
                }
                Gives::Column(used) | Gives::Text(used) => {
                    let (column, origin) = self.bare(used, scope)?;
                    let cast = matches!(gives, Gives::Text(_));
                    if let Some(column) = column.filter(|column| cast && !self.is_text(*column)) {
                        return Err(Trouble::Used(column, Place::Expression));
                    }
                    // What is cast may have another type than the column; a labelled one has not.
                    let origin = origin.filter(|_| !cast || column.is_some());
                    let name = alias.as_deref().or(used.path.last().map(String::as_str));
                    outs.list.push(Out { name: name.map(Rc::from), column, origin });
                }
                // Whatever stands behind them stands at a place that is not known.
                Gives::Fields => outs.more = true,
                Gives::Star(path) => match path.last() {
                    None => {
                        for star in stars {
                            self.list(star)?;
                            outs.list.extend(star.list.iter().cloned());
                            outs.more |= star.more;
                        }
                    }
                    Some(alias) => {
                        let named = scope.aliased(alias, path.len() == 1, false);
                        let [one] = named[..] else {
                            if named.iter().all(|ranged| ranged.outs.labelled().is_none())
                                && !named.is_empty()
                            {
                                outs.more = true;
                                continue;
                            }
                            return unfollowed(format!("{alias:?}.* names nothing, or more than one thing"));
                        };
                        self.list(&one.outs)?;
                        outs.list.extend(one.outs.list.iter().cloned());
                        outs.more |= one.outs.more;
                    }
                },
            }
        }
        if outs.list.len() > OUTPUTS_MAX {
            return unfollowed(format!("a query of more than {OUTPUTS_MAX} columns"));
        }
        if outs.more && outs.labelled().is_some() {
            return unfollowed("the number of its columns is not known, and one of them is labelled");
        }
        Ok(outs)
    }

    /// Whether `::text` changes nothing of it: it is a `text`, and `text` means the built-in type. Types of the temporary schema
    /// come before `pg_catalog`, and so do those of schemas that the path lists before it.
    fn is_text(&self, column: Column) -> bool {
        let built_in =
            !self.temp_possible && self.path.schemas().skip(1).all(|schema| &**schema != "pg_catalog");
        let columns =
            self.snapshot.relation_by_oid(column.relation).and_then(|found| found.columns.as_deref());
        let found = columns.into_iter().flatten().find(|found| found.number == column.number);
        built_in && found.is_some_and(|found| found.type_oid == TEXT_OID)
    }

    /// The labelled column that a bare output is, and where it comes from. All meanings of the name must be that one.
    fn bare(&self, used: &Use, scope: &Scope<'_>) -> Found<(Option<Column>, Option<Origin>)> {
        let meanings = self.meanings(used, scope)?;
        match meanings.labelled.first() {
            None => Ok((None, meanings.origin.flatten())),
            Some(_) if meanings.whole => Err(Trouble::Used(meanings.labelled[0], Place::Expression)),
            Some(first) if meanings.clean || meanings.labelled.iter().any(|column| column != first) => {
                unfollowed(format!(
                    "{:?} may mean several columns, one of them labelled; write it with its table",
                    used.path.join(".")
                ))
            }
            Some(first) => Ok((Some(*first), Some((first.relation, first.number)))),
        }
    }

    /// Every other use of a name, and the queries in expressions.
    fn uses(&self, level: &Level, outs: &Outs, scope: &Scope<'_>, names: Option<&Names<'_>>) -> Found<()> {
        if let Some(why) = level.opaque {
            return unfollowed(format!("{why} is not followed near a label"));
        }
        if let (true, Some(column)) = (level.distinct && !self.stored_alone, outs.labelled()) {
            return Err(Trouble::Used(column, Place::Distinct));
        }
        for (number, place) in &level.positions {
            let output = number.checked_sub(1).and_then(|at| outs.list.get(at));
            if let Some(column) = output.and_then(|out| out.column).filter(|_| !self.suffers(*place)) {
                return Err(Trouble::Used(column, *place));
            }
        }
        for used in level.uses.iter().filter(|used| !self.suffers(used.place)) {
            // ORDER BY, GROUP BY and DISTINCT ON see the outputs' names, too.
            let by_output = matches!(used.place, Place::Order | Place::Group | Place::Distinct);
            let mut of_output = false;
            if let (true, [name]) = (by_output, &used.path[..]) {
                for out in outs.list.iter().filter(|out| out.name.as_deref() == Some(name)) {
                    of_output = true;
                    if let Some(column) = out.column {
                        return Err(Trouble::Used(column, used.place));
                    }
                }
                of_output |= outs.more || outs.list.iter().any(|out| out.name.is_none());
            }
            match self.meanings(used, scope) {
                Ok(meanings) => {
                    if let Some(column) = meanings.labelled.first() {
                        return Err(Trouble::Used(*column, used.place));
                    }
                }
                Err(Trouble::Unfollowed(_)) if of_output => {}
                Err(trouble) => return Err(trouble),
            }
        }
        for inner in &level.queries {
            let around = Scope { weak: inner.weak, ..*scope };
            let outs = self.query(&inner.query, Some(&around), names)?;
            if let (false, Some(column)) = (inner.exists, outs.labelled()) {
                return Err(Trouble::Used(column, Place::SubSelect));
            }
        }
        Ok(())
    }

    /// Whether a use there stores nothing, and nothing else is asked for.
    fn suffers(&self, place: Place) -> bool {
        self.stored_alone && place.chooses_alone()
    }

    fn meanings(&self, used: &Use, scope: &Scope<'_>) -> Found<Meanings> {
        // A name is compared with every column of what is in sight.
        let one = |item: &Ranged| 1 + item.outs.list.len() / LOOKS_A_COLUMN;
        let looks = std::iter::successors(Some(scope), |level| level.outer)
            .map(|level| level.items.iter().map(one).sum::<usize>() + 1);
        self.look(looks.sum())?;
        let mut meanings = Meanings::default();
        match (&used.path[..], used.star) {
            ([], _) => {
                // `*` inside an expression: every row in sight.
                let mut next = Some(scope);
                while let Some(level) = next {
                    level.items.iter().for_each(|item| meanings.whole_row(item));
                    next = level.outer;
                }
                meanings.clean = true;
            }
            (path, true) => {
                let alias = path.last().map_or("", String::as_str);
                scope
                    .aliased(alias, path.len() == 1 && !used.weak, used.weak)
                    .into_iter()
                    .for_each(|item| meanings.whole_row(item));
                self.column(alias, used, scope, &mut meanings);
            }
            ([name], false) => {
                self.column(name, used, scope, &mut meanings);
                if !meanings.settled {
                    // No column, or perhaps none: a whole row, or a function of one.
                    scope.aliased(name, false, true).into_iter().for_each(|item| meanings.whole_row(item));
                }
            }
            ([.., alias, name], false) => {
                for item in scope.aliased(alias, used.path.len() == 2 && !used.weak, used.weak) {
                    if !meanings.column_of(item, name) && !SYSTEM_COLUMNS.contains(&name.as_str()) {
                        meanings.whole_row(item);
                    }
                }
            }
        }
        if meanings.labelled.is_empty() && !meanings.clean {
            let name = used.path.join(".");
            return unfollowed(format!("the name {name:?} could not be followed"));
        }
        Ok(meanings)
    }

    /// A bare name as a column, level by level.
    fn column(&self, name: &str, used: &Use, scope: &Scope<'_>, meanings: &mut Meanings) {
        let mut next = Some(scope);
        while let Some(level) = next {
            let has = |item: &&Ranged| item.outs.list.iter().any(|out| out.name.as_deref() == Some(name));
            let seen = |item: &&Ranged| !item.hidden || used.weak || level.weak;
            let certain = level.items.iter().any(|item| !item.hidden && has(&item));
            // Were it in one that only may have it as well, the server would call it ambiguous.
            for item in level.items.iter().filter(seen).filter(|item| !certain || has(item)) {
                meanings.column_of(item, name);
            }
            if certain && !level.weak && !used.weak {
                meanings.settled = true;
                return;
            }
            if SYSTEM_COLUMNS.contains(&name) && !level.items.is_empty() {
                meanings.clean = true;
            }
            next = level.outer;
        }
    }
}
