"""SQL with hostile names: one dozen identifiers shared by columns, aliases, WITH queries, functions and tables.

What it makes is often refused by the server; what is accepted names the same thing in ways that look like another. Seeded:
the same seed makes the same statements.
"""

from __future__ import annotations

import random

ALIASES = ["ssn", "id", "c", "customers", "orders", "x", "y", "region", "q"]
DEPTH_MAX = 6


class Hostile:
    """One generator of SELECTs over `tables`, a dict of column names by relation."""

    def __init__(self, tables, seed):
        self.tables, self.random, self.depth = tables, random.Random(seed), 0

    def alias(self):
        return self.random.choice(ALIASES)

    def deeper(self, make, *arguments):
        self.depth += 1
        try:
            return make(*arguments)
        finally:
            self.depth -= 1

    def item(self, ctes, left):
        """An item of FROM and what it can be named by: (text, [(alias, columns)])."""
        chance = self.random.random()
        if self.depth > DEPTH_MAX or chance < 0.5:
            return self.relation(ctes)
        if chance < 0.68:
            lateral = self.random.random() < 0.4
            query, columns = self.deeper(self.select, ctes, left if lateral else [])
            alias = self.alias()
            return f"{'lateral ' if lateral else ''}({query}) {alias}", [(alias, columns)]
        if chance < 0.75:
            alias, inner = self.alias(), self.deeper(self.expression, left, ctes) if left else "1"
            return self.random.choice([
                (f"unnest(array[({inner})::text, 'k']) {alias}", [(alias, [alias])]),
                (f"lateral (values (({inner})::text, 1)) {alias}(x, id)", [(alias, ["x", "id"])]),
            ])
        return self.deeper(self.join, ctes, left)

    def relation(self, ctes):
        name = self.random.choice(list(self.tables) + list(ctes) * 2)
        columns = ctes.get(name) or self.tables[name]
        alias = self.random.choice([None, self.alias(), self.alias()])
        bare = name.rpartition(".")[2]
        if alias and self.random.random() < 0.15:
            named = [self.alias() for _ in range(self.random.randint(1, 2))]
            return f"{name} as {alias}({', '.join(named)})", [(alias, named + columns[len(named):])]
        return f"{name} {alias or ''}", [(alias or bare, columns)]

    def join(self, ctes, left):
        one, ones = self.item(ctes, left)
        kind = self.random.choice(["join", "left join", "right join", "full join", "natural join", "cross join"])
        other, others = self.item(ctes, left + ones if kind in ("join", "left join", "cross join") else left)
        both = ones + others
        if kind in ("natural join", "cross join"):
            return f"({one} {kind} {other})", both
        shared = sorted({c for _, cs in ones for c in cs} & {c for _, cs in others for c in cs})
        if shared and self.random.random() < 0.5:
            using = self.random.choice(shared)
            if self.random.random() < 0.3:
                alias = self.alias()
                return f"({one} {kind} {other} using ({using})) as {alias}", [(alias, [c for _, cs in both for c in cs])]
            return f"{one} {kind} {other} using ({using})", both
        return f"{one} {kind} {other} on ({self.expression(both, ctes)})::text is not null", both

    def name(self, scope):
        alias, columns = self.random.choice(scope)
        column = self.random.choice(columns or ["id"])
        return self.random.choice([column, column, f"{alias}.{column}", f"{alias}.{column}"])

    def expression(self, scope, ctes):
        if not scope:
            return self.random.choice(["1", "'k'"])
        chance = self.random.random()
        alias, columns = self.random.choice(scope)
        column = self.random.choice(columns or ["id"])
        if chance < 0.55 or self.depth > DEPTH_MAX:
            return self.name(scope)
        for limit, made in ((0.60, alias), (0.63, f"({alias}).{column}"), (0.66, f"{column}({alias})"),
                            (0.68, f"to_jsonb({alias})"), (0.70, f"row({alias}.*)")):
            if chance < limit:
                return made
        inner = self.deeper(self.expression, scope, ctes)
        if chance < 0.78:
            return f"({self.deeper(self.select, ctes, scope, 1)[0]} limit 1)"
        if chance < 0.84:
            return f"exists ({self.deeper(self.select, ctes, scope)[0]})"
        if chance < 0.88:
            return f"coalesce(({inner})::text, 'k')"
        if chance < 0.92:
            return f"case when ({inner})::text = 'a' then 1 end"
        if chance < 0.95:
            return f"max(({inner})::text) over ()"
        return f"({inner})::text in (select ({self.deeper(self.expression, scope, ctes)})::text)"

    def select(self, ctes, outer, width=None):
        """A SELECT and the names of its outputs."""
        if self.depth > DEPTH_MAX + 1:
            return "select 1 as id", ["id"]
        head, ctes = "", dict(ctes)
        if self.random.random() < 0.25:
            name = self.random.choice(["customers", "orders", "ssn", "q"])
            query, columns = self.deeper(self.select, ctes, outer)
            recursive = self.random.random() < 0.3
            head = f"with {'recursive ' if recursive else ''}{name} as ({query}) "
            ctes[name] = columns
        items, scope = [], []
        for _ in range(self.random.choice([1, 1, 1, 2])):
            text, named = self.item(ctes, outer + scope)
            items.append(text)
            scope = scope + named
        seen = scope + (outer if self.random.random() < 0.4 else [])
        outputs, columns = [], []
        for _ in range(width or self.random.choice([1, 1, 2, 3])):
            chance = self.random.random()
            if not width and chance < 0.1:
                outputs.append("*")
                columns += [c for _, cs in scope for c in cs]
            elif not width and chance < 0.2:
                alias, named = self.random.choice(scope)
                outputs.append(f"{alias}.*")
                columns += named
            else:
                alias = self.alias()
                outputs.append(f"{self.expression(seen, ctes)} as {alias}")
                columns.append(alias)
        text = f"{head}select {', '.join(outputs)} from {', '.join(items)}"
        if self.random.random() < 0.3:
            text += f" where ({self.expression(seen, ctes)})::text is not null"
        if self.random.random() < 0.1:
            text += f" order by {self.name(seen)}"
        if self.random.random() < 0.08 and not head and not width:
            text = f"({text}) union all ({self.deeper(self.select, ctes, outer)[0]})"
        return text, columns

    def statement(self):
        return self.select({}, [])[0]


class Bare(Hostile):
    """The same, with `labelled` columns as plain outputs alone: through aliases, stars, sub-selects, WITH and joins. What it makes
    is to pass; everything else stands on columns that are not labelled."""

    def __init__(self, tables, labelled, seed):
        super().__init__(tables, seed)
        self.labelled, self.count = labelled, 0

    def fresh(self):
        self.count += 1
        return f"n{self.count}"

    def source(self, ctes):
        """An item of FROM: (text, alias, [(name, labelled)])."""
        alias, chance = self.fresh(), self.random.random()
        if self.depth > 3 or chance < 0.5:
            name = self.random.choice(list(self.tables) + list(ctes) * 2)
            if name in ctes:
                return f"{name} as {alias}", alias, ctes[name]
            columns = [(column, (name, column) in self.labelled) for column in self.tables[name]]
            if self.random.random() < 0.2:
                columns = [(self.fresh(), secret) for _, secret in columns]
                return f"{name} as {alias} ({', '.join(c for c, _ in columns)})", alias, columns
            return f"{name} as {alias}", alias, columns
        query, columns = self.deeper(self.bare, ctes)
        return f"{'lateral ' if chance > 0.9 else ''}({query}) as {alias}", alias, columns

    def bare(self, ctes):
        """A SELECT and its outputs, each with whether it is labelled."""
        head, ctes = "", dict(ctes)
        if self.random.random() < 0.25:
            name, (query, columns) = self.fresh(), self.deeper(self.bare, ctes)
            head, ctes[name] = f"with {name} as ({query}) ", columns
        text, alias, columns = self.source(ctes)
        scope = [(alias, columns)]
        if self.random.random() < 0.4:
            other, second, seconds = self.source(ctes)
            one, two = self.clean(scope), self.clean([(second, seconds)])
            kind = self.random.choice(["join", "left join", "right join", "full join"])
            text += f" {kind} {other} on " + (f"{one}::text = {two}::text" if one and two and kind != "full join" else "true")
            scope.append((second, seconds))
        if self.random.random() < 0.1:
            outputs, given = ["*"], [column for _, columns in scope for column in columns]
            if len({name for name, _ in given}) < len(given):
                outputs, given = [f"{scope[0][0]}.*"], list(scope[0][1])
        else:
            outputs, given = [], []
            for _ in range(self.random.choice([1, 2, 3, 4])):
                alias, columns = self.random.choice(scope)
                (name, secret), made = self.random.choice(columns), self.fresh()
                outputs.append(f"{alias}.{name} as {made}")
                given.append((made, secret))
            if self.clean(scope) and self.random.random() < 0.3:
                made = self.fresh()
                outputs.append(f"coalesce({self.clean(scope)}::text, 'k') as {made}")
                given.append((made, False))
        text = f"{head}select {', '.join(outputs)} from {text}"
        if self.clean(scope) and self.random.random() < 0.4:
            text += f" where {self.clean(scope)}::text > 'a'"
        if self.clean(scope) and self.random.random() < 0.3:
            text += f" order by {self.clean(scope)}"
        return text + (" limit 40" if self.random.random() < 0.2 else ""), given

    def clean(self, scope):
        """A column that is not labelled, or None."""
        found = [f"{alias}.{name}" for alias, columns in scope for name, secret in columns if not secret]
        return self.random.choice(found) if found else None

    def statement(self):
        return self.bare({})[0]
