"""The ordinary work of two ORMs on the tables of corpora.py, for the record of what they send: `orm.py Django` or `orm.py SQLAlchemy`.

The server is the one that PGHOST, PGPORT, PGUSER and PGDATABASE name.
"""

import datetime
import os
import sys

TODAY = datetime.date(2026, 3, 1)


def sqlalchemy():
    """Reflection, then objects: created, found, joined, changed, counted, taken away."""
    import sqlalchemy as sa
    from sqlalchemy import orm
    from sqlalchemy.ext.automap import automap_base

    engine = sa.create_engine("postgresql+psycopg://")
    base = automap_base()
    base.prepare(autoload_with=engine)
    customer, setting = base.classes.customers, base.classes.settings
    orders = base.metadata.tables.get("orders")
    if orders is None:
        orders = sa.Table("orders", base.metadata, autoload_with=engine)
    inspector = sa.inspect(engine)
    for name in inspector.get_table_names() + inspector.get_view_names():
        inspector.get_columns(name), inspector.get_indexes(name), inspector.get_foreign_keys(name)
    with orm.Session(engine) as session:
        session.add_all(customer(email=f"{n}@example.com", phone=str(n), first_name="a", last_name="b", region=f"r{n % 3}") for n in range(30))
        session.add(setting(name="theme", value={"dark": True}))
        session.commit()
        someone = session.scalars(sa.select(customer).order_by(customer.id)).first()
        session.get(customer, someone.id)
        session.scalars(sa.select(customer).where(customer.region == "r1").limit(5).offset(1)).all()
        session.scalars(sa.select(customer).where(customer.email == "3@example.com")).all()
        session.scalars(sa.select(customer).where(customer.last_name.ilike("b%")).order_by(customer.last_name)).all()
        session.execute(sa.select(customer.region, sa.func.count()).group_by(customer.region)).all()
        session.scalar(sa.select(sa.func.count()).select_from(customer))
        session.execute(sa.insert(orders).values(customer_id=someone.id, placed=TODAY, status="new", total=7))
        joined = sa.select(customer, orders.c.total).join(orders, orders.c.customer_id == customer.id).where(orders.c.status == "new")
        session.execute(joined).all()
        session.execute(sa.select(customer.email).where(sa.exists().where(orders.c.customer_id == customer.id))).all()
        recent = sa.select(orders.c.customer_id, sa.func.max(orders.c.placed).label("last")).group_by(orders.c.customer_id).cte("recent")
        session.execute(sa.select(customer.id, customer.email, recent.c.last).join(recent, recent.c.customer_id == customer.id)).all()
        someone.phone = "8"
        session.commit()
        session.refresh(someone)
        session.execute(sa.update(customer).where(customer.region == "r2").values(notes="x"))
        session.execute(sa.delete(orders).where(orders.c.status == "new"))
        session.delete(someone)
        session.commit()


def django_orm():
    """Its own applications migrated, users and groups, then models over the tables."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    database = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
                "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"]}  # fmt: skip
    settings.configure(DATABASES={"default": database}, USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
                       INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"])  # fmt: skip
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        call_command("inspectdb", stdout=nowhere)
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.sessions.models import Session
    from django.db import models, transaction

    class Customer(models.Model):
        email, phone, first_name, last_name, region = (models.TextField(null=True) for _ in range(5))

        class Meta:
            app_label, managed, db_table = "shop", False, "customers"

    Customer.objects.bulk_create(Customer(email=f"{n}@example.com", phone=str(n), region=f"r{n % 3}") for n in range(30))
    someone = Customer.objects.order_by("id").first()
    list(Customer.objects.filter(region="r1")[1:5]), list(Customer.objects.values_list("id", "email"))
    list(Customer.objects.filter(email="3@example.com")), Customer.objects.count(), Customer.objects.filter(region="r2").exists()
    list(Customer.objects.values("region").annotate(n=models.Count("id")).order_by("region"))
    list(Customer.objects.exclude(phone=None).order_by("last_name").only("id", "email"))
    Customer.objects.filter(region="r2").update(phone=None)
    someone.phone = "8"
    someone.save()
    Customer.objects.get_or_create(email="new@example.com")
    someone.delete()
    group = Group.objects.create(name="staff")
    with transaction.atomic():
        user = User.objects.create_user("kim", "kim@example.com", "secret")
        group.user_set.add(user)
        group.permissions.set(Permission.objects.all()[:5])
    User.objects.get(pk=user.pk), user.get_all_permissions(), list(User.objects.filter(groups=group).select_related())
    list(User.objects.filter(username="kim")), list(User.objects.prefetch_related("groups").all())
    list(Session.objects.filter(expire_date__lt=datetime.datetime.now(datetime.UTC))), user.check_password("secret")
    user.last_login = datetime.datetime.now(datetime.UTC)
    user.save(update_fields=["last_login"])
    user.delete()


if __name__ == "__main__":
    {"Django": django_orm, "SQLAlchemy": sqlalchemy}[sys.argv[1]]()
