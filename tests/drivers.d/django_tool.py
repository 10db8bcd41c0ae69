"""Django's ordinary work: migrate its own applications and ours, the ORM, transactions, introspection."""

from io import StringIO

import django
from django.conf import settings
from django.core.management import call_command

from steps import check, env, run

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": env("PGDATABASE"), "USER": env("PGUSER"),
        "PASSWORD": env("PGPASSWORD"), "HOST": "localhost", "PORT": env("PGPORT"), "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"sslmode": "verify-full", "sslrootcert": env("PGSSLROOTCERT")},
    }},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    USE_TZ=True, TIME_ZONE="Europe/Berlin", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402 - needs the settings
from django.db import DatabaseError, IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Count, F, Q  # noqa: E402


def migrate():
    call_command("migrate", verbosity=0, interactive=False)
    said = StringIO()
    call_command("showmigrations", stdout=said)
    check("none is left", 0, said.getvalue().count("[ ]"))
    call_command("sqlmigrate", "auth", "0001", stdout=StringIO())


def work():
    group = Group.objects.create(name="staff")
    User.objects.bulk_create([User(username=f"user {n}", email=f"{n}@example.com") for n in range(200)])
    group.user_set.add(*User.objects.filter(username__startswith="user 1"))
    check("joined", 111, User.objects.filter(groups__name="staff").count())
    User.objects.filter(Q(username__endswith="7") | Q(email__contains="9@")).update(first_name=F("username"))
    check("annotated", 111, Group.objects.annotate(n=Count("user")).get().n)
    user, made = User.objects.get_or_create(username="user 5")
    check("found", False, made)
    user.set_password("x")
    user.save(update_fields=["password"])
    check("iterated", 200, sum(1 for _ in User.objects.order_by("id").iterator(chunk_size=20)))
    check("deleted", True, User.objects.filter(username__startswith="user 2").delete()[0] >= 11)


def atomic():
    with transaction.atomic():
        Group.objects.create(name="kept")
        try:
            with transaction.atomic():
                Group.objects.create(name="kept")
        except IntegrityError:
            pass
        Group.objects.select_for_update().get(name="kept")
        check("kept", 1, Group.objects.filter(name="kept").count())
    try:
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET work_mem = '1MB'")
    except DatabaseError as error:
        check("refused", True, "pgturnstile refused" in str(error))
    check("alive", 1, Group.objects.filter(name="kept").count())


def inspect():
    said = StringIO()
    call_command("inspectdb", stdout=said)
    check("models", True, "class AuthUser(" in said.getvalue())
    call_command("check", database=["default"], verbosity=0)


def unmigrate():
    for application in ("sessions", "auth", "contenttypes"):
        call_command("migrate", application, "zero", verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")


run({"migrate": migrate, "models": work, "transactions": atomic, "introspection": inspect, "migrate to zero": unmigrate})
