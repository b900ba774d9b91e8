"""Databases as tracking stores: whether a login is accepted, and the packages that are needed, before MLflow is asked.

MLflow repeats a rejected login for minutes.
"""

from core.errors import InputError
from trainables.study.tracking_uri import shown

TIMEOUT_SECONDS = 3
"""Time that a database may take to answer."""
TIMEOUTS = {
    "psycopg": "connect_timeout", "psycopg2": "connect_timeout", "mysqldb": "connect_timeout", "pymysql": "connect_timeout",
    "pyodbc": "timeout",
}  # fmt: skip
"""The timeout of each driver of SQLAlchemy."""
DRIVERS = {"postgresql": ("psycopg", "psycopg[binary]"), "mysql": ("pymysql", "pymysql"), "mssql": ("pyodbc", "pyodbc")}
"""A driver of each database, as it is named in a URI, and its package."""


def check_login(uri: str) -> None:
    """Check that a database accepts the login in a URI.

    Raises:
        InputError: it does not, or its driver is not installed.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    database = uri.partition(":")[0].partition("+")[0]
    try:
        url = sqlalchemy.make_url(uri)
        timeout = TIMEOUTS.get(url.get_dialect().driver, "")
        own = {timeout: TIMEOUT_SECONDS} if timeout and timeout not in url.query else {}
        sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=own).connect().close()
    except ModuleNotFoundError as error:
        driver, package = DRIVERS[database]
        rest = shown(uri).partition("://")[2]
        raise InputError(
            f"--tracking-uri {shown(uri)}: the driver {error.name} is not installed; "
            f"pip install '{package}' and use --tracking-uri {database}+{driver}://{rest}"
        ) from None
    except NoSuchModuleError:
        raise InputError(f"--tracking-uri {shown(uri)}: unknown driver; use {database}+{DRIVERS[database][0]}://...") from None
    except DBAPIError as error:
        raise InputError(f"--tracking-uri {shown(uri)} cannot be used: {' '.join(str(error.orig).split())}") from None
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(f"--tracking-uri {shown(uri)} cannot be used: {error}") from None
