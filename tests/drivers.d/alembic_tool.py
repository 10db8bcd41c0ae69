"""Alembic's ordinary work: upgrade, an index made concurrently, autogenerate, downgrade."""

import io
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from steps import check, env, run

ENV = '''
from alembic import context
import sqlalchemy as sa
metadata = sa.MetaData()
sa.Table("people", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text, nullable=False),
         sa.Column("email", sa.Text), sa.Column("age", sa.Integer))
with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
'''
SCRIPT = '''
"""${message}"""
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
def upgrade():
    ${upgrades if upgrades else "pass"}
def downgrade():
    ${downgrades if downgrades else "pass"}
'''
FIRST = '''
revision = "1"
down_revision = None
from alembic import op
import sqlalchemy as sa
def upgrade():
    people = op.create_table("people", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text, nullable=False))
    op.bulk_insert(people, [{"id": n, "name": f"person {n}"} for n in range(100)])
    op.execute("ALTER TABLE people ADD COLUMN email text; UPDATE people SET email = name || '@example.com' WHERE id >= 0")
def downgrade():
    op.drop_table("people")
'''
SECOND = '''
revision = "2"
down_revision = "1"
from alembic import op
def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("people_email", "people", ["email"], postgresql_concurrently=True)
    op.create_check_constraint("people_name", "people", "name <> ''")
    op.alter_column("people", "email", nullable=False)
    op.alter_column("people", "email", nullable=True)
def downgrade():
    op.drop_constraint("people_name", "people")
    op.drop_index("people_email")
'''


def engine(driver):
    url = sa.URL.create(f"postgresql+{driver}", env("PGUSER"), env("PGPASSWORD"), "localhost", int(env("PGPORT")), env("PGDATABASE"))
    return sa.create_engine(url, connect_args={"sslmode": "verify-full", "sslrootcert": env("PGSSLROOTCERT")})


def by(driver, first=FIRST):
    def step():
        with tempfile.TemporaryDirectory() as folder:
            versions = Path(folder) / "versions"
            versions.mkdir()
            (Path(folder) / "env.py").write_text(ENV)
            (Path(folder) / "script.py.mako").write_text(SCRIPT)
            (versions / "1.py").write_text(first)
            (versions / "2.py").write_text(SECOND)
            config = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
            config.set_main_option("script_location", folder)
            config.attributes["engine"] = made = engine(driver)
            try:
                command.upgrade(config, "head")
                with made.connect() as connection:
                    check("rows", 100, connection.scalar(sa.text("SELECT count(*) FROM people WHERE email LIKE '%@%'")))
                command.revision(config, message="generated", autogenerate=True)
                generated = next(path for path in versions.glob("*.py") if path.stem not in ("1", "2"))
                check("it saw the column", True, "age" in generated.read_text())
                command.upgrade(config, "head")
                command.current(config, verbose=True)
                command.downgrade(config, "base")
                with made.connect() as connection:
                    check("gone", ["alembic_version"], [name for name in sa.inspect(connection).get_table_names() if name != "rows"])
            finally:
                with made.begin() as connection:
                    connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version, people"))
                made.dispose()

    return step


ROW_BY_ROW = FIRST.replace("for n in range(100)])", "for n in range(100)], multiinsert=False)")

run({"by psycopg 3": by("psycopg"), "by psycopg 3, row by row": by("psycopg", ROW_BY_ROW), "by psycopg 2": by("psycopg2")})
