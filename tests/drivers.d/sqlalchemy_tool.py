"""SQLAlchemy's ordinary work, by three drivers: tables, ORM, savepoints, reflection, streams, its pool."""

import asyncio
import ssl

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from steps import check, env, run


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(80), unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("authors.id"), index=True)
    title: orm.Mapped[str]
    year: orm.Mapped[int | None]
    data: orm.Mapped[dict] = orm.mapped_column(sa.JSON().with_variant(postgresql.JSONB(), "postgresql"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def url(driver):
    return sa.URL.create(f"postgresql+{driver}", env("PGUSER"), env("PGPASSWORD"), "localhost", int(env("PGPORT")), env("PGDATABASE"))


def work(engine):
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(Author(name=f"author {n}", books=[Book(title=f"t{n}.{m}", data={"m": m}) for m in range(3)]) for n in range(50))
        session.commit()
        first = session.scalars(sa.select(Author).options(orm.selectinload(Author.books)).order_by(Author.id)).first()
        check("books", 3, len(first.books))
        first.name = "renamed"
        first.books.pop()
        session.commit()
        try:
            with session.begin_nested():
                session.add(Author(name="renamed"))
        except sa.exc.IntegrityError:
            pass
        check("authors", 50, session.scalar(sa.select(sa.func.count()).select_from(Author)))
        session.execute(sa.update(Book).where(Book.title.like("t1%")).values(year=2026))
        rows = session.execute(sa.select(Author.name, sa.func.count(Book.id)).join(Author.books).group_by(Author.name)).all()
        check("groups", 50, len(rows))
        inserted = postgresql.insert(Author).values(name="renamed")
        session.execute(inserted.on_conflict_do_update(index_elements=[Author.name], set_={"name": inserted.excluded.name}))
        session.commit()
        session.execute(sa.select(Author).with_for_update().where(Author.name == "renamed")).all()
        session.rollback()
    with engine.connect().execution_options(stream_results=True, isolation_level="REPEATABLE READ") as connection:
        check("stream", 149, sum(1 for _ in connection.execute(sa.select(Book)).yield_per(10)))


def reflects(connection):
    inspector = sa.inspect(connection)
    check("tables", ["authors", "books"], sorted(inspector.get_table_names()))
    check("columns", 5, len(inspector.get_columns("books")))
    check("keys", 1, len(inspector.get_foreign_keys("books")))
    inspector.get_indexes("books")
    inspector.get_view_names()
    inspector.get_check_constraints("books")
    sa.MetaData().reflect(connection)


def by(driver):
    def step():
        options = {"pool_pre_ping": True, "pool_size": 2}
        engine = sa.create_engine(url(driver), connect_args={"sslmode": "verify-full", "sslrootcert": env("PGSSLROOTCERT")}, **options)
        try:
            work(engine)
            with engine.connect() as connection:
                reflects(connection)
        finally:
            Base.metadata.drop_all(engine)
            engine.dispose()

    return step


def by_asyncpg():
    async def step():
        context = ssl.create_default_context(cafile=env("PGSSLROOTCERT"))
        engine = create_async_engine(url("asyncpg"), connect_args={"ssl": context}, pool_pre_ping=True)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with AsyncSession(engine) as session:
                session.add(Author(name="only", books=[Book(title="t", data={})]))
                await session.commit()
                found = await session.scalar(sa.select(Author).options(orm.selectinload(Author.books)))
                check("books", 1, len(found.books))
                result = await session.stream(sa.select(Book))
                check("stream", 1, len([row async for row in result]))
                await session.delete(found)
                await session.commit()
            async with engine.connect() as connection:
                await connection.run_sync(reflects)
        finally:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
            await engine.dispose()

    asyncio.run(step())


run({"by psycopg 3": by("psycopg"), "by psycopg 2": by("psycopg2"), "by asyncpg": by_asyncpg})
