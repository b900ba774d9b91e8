"""Credentials are removed from texts in every form in which libraries and users write them, and nothing else is."""

import shlex
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.redaction import has_secret, redacted, redacted_command

REMOVED = {
    # logins of URIs
    "postgresql://user:S3CRET@host/db failed": "postgresql://***@host/db failed",
    "postgresql+psycopg://u:S3%40CRET@[::1]:5432/db": "postgresql+psycopg://***@[::1]:5432/db",
    "MYSQL+PyMySQL://ROOT:S3CRET@HOST/db": "MYSQL+PyMySQL://***@HOST/db",
    "https://user:S3/CRET@host/path": "https://***@host/path",
    "https://user:S3CRET@host/p@th": "https://***@host/p@th",
    "http://user:S3CRET@[2001:db8::1]:5000/": "http://***@[2001:db8::1]:5000/",
    "postgresql://user:my S3CRET@host/db": "postgresql://***@host/db",
    "postgresql://user:S3/CR@E/T@host/db": "postgresql://***@host/db",
    "postgresql://user:12/S3CRET@host/db": "postgresql://***@host/db",
    "postgresql://user:S3CRET@h1:1,h2:2/db": "postgresql://***@h1:1,h2:2/db",
    "mysql://root:S3#CR?ET@host/db": "mysql://***@host/db",
    "redis://:S3CRET@host:1": "redis://***@host:1",
    "s3://KEY:S3/CR+ET@bucket/runs?region=us": "s3://***@bucket/runs?region=us",
    "https://S3CRET@github.com/x": "https://***@github.com/x",
    "git+https://S3CRET@github.com/x": "git+https://***@github.com/x",
    "git+ssh://git:S3CRET@host/x": "git+ssh://***@host/x",
    "from http://a:S3CRET@h/x to http://b:S3CRET@i/y?token=S3CRET": "from http://***@h/x to http://***@i/y?token=***",
    "('postgresql://u:S3CRET@h/db', 1)": "('postgresql://***@h/db', 1)",
    "next=https%3A%2F%2Fu%3AS3CRET%40host%2Fp": "next=https%3A%2F%2F***%40host%2Fp",
    # parameters of query strings
    "https://host/path?Password=S3CRET&x=1 token=S3CRET": "https://host/path?Password=***&x=1 token=***",
    "postgresql://u@h/db?password=S3CRET&sslmode=require": "postgresql://u@h/db?password=***&sslmode=require",
    "postgresql://u@h/db?password=my S3CRET&sslmode=require": "postgresql://u@h/db?password=***&sslmode=require",
    "postgresql://h/db?user=u&password=my S3CRET": "postgresql://h/db?user=u&password=***",
    "s3://b/x?access_key=S3CRET&secret_key=S3 CRET": "s3://b/x?access_key=***&secret_key=***",
    "https://h/x?api_key=S3CRET&y=1": "https://h/x?api_key=***&y=1",
    "https://h/x?apikey=S3CRET": "https://h/x?apikey=***",
    "https://a.net/c?sv=2020&sig=S3CRET%3D&se=2030": "https://a.net/c?sv=2020&sig=***&se=2030",
    "https://b/x?X-Amz-Signature=S3CRET&X-Amz-Security-Token=S3CRET&X-Amz-Expires=3":
        "https://b/x?X-Amz-Signature=***&X-Amz-Security-Token=***&X-Amz-Expires=3",
    "s3://b/x?access_key=S3CRET&secret_key=S3CRET&region=x": "s3://b/x?access_key=***&secret_key=***&region=x",
    "a%3Fpassword%3DS3CRET%26x%3D1": "a%3Fpassword%3D***%26x%3D1",
    # connection strings
    "host=h password='my S3CRET' user=me": "host=h password=*** user=me",
    "host=h password = S3CRET dbname=x": "host=h password = *** dbname=x",
    r"password='it\'s S3CRET' x=1": "password=*** x=1",
    "AccountName=a;AccountKey=S3CRET==;EndpointSuffix=core": "AccountName=a;AccountKey=***;EndpointSuffix=core",
    "az://c?account_key=S3CRET": "az://c?account_key=***",
    "DRIVER={x};UID=u;PWD={S3;CRET};SERVER=h": "DRIVER={x};UID=u;PWD=***;SERVER=h",
    "jdbc:sqlserver://h:1433;user=u;password=S3CRET;x=1": "jdbc:sqlserver://h:1433;user=u;password=***;x=1",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC+17%7D%3BUID%3Dme%3BPWD%3DS3CRET": "mssql+pyodbc:///?odbc_connect=***",
    "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D%7BS3+CR%3BET%7D&x=1": "mssql+pyodbc:///?odbc_connect=***&x=1",
    # headers, variables, JSON, options
    "Authorization: Bearer S3CRET": "Authorization: Bearer ***",
    "Authorization: Basic S3CRET==": "Authorization: Basic ***",
    "sent bearer S3CRET.x-y": "sent bearer ***",
    "AWS_SECRET_ACCESS_KEY=S3CRET python x.py": "AWS_SECRET_ACCESS_KEY=*** python x.py",
    "MLFLOW_TRACKING_TOKEN='S3 CRET' x": "MLFLOW_TRACKING_TOKEN=*** x",
    '{"password": "S3CRET", "user": "x"}': '{"password": ***, "user": "x"}',
    "{'client_secret': 'S3CRET'}": "{'client_secret': ***}",
    "--password S3CRET --x": "--password *** --x",
    "passwd=S3CRET, pwd=S3CRET": "passwd=***, pwd=***",
}  # fmt: skip
KEPT = (
    "http://host/p@th", "http://host:8080/p@th", "http://[::1]:5000/p@th", "https://host/path?x=a@b", "postgresql://user@host:5432/db",
    "postgresql://h1:5432,h2:5433/db?x=a@b", "git+ssh://git@github.com/x", "hdfs://me@host:8020/x", "ftp://anonymous@h/x",
    "abfs://container@account.dfs.core.windows.net/x", "sqlite:////home/a:b@c/x.db", "file:///a@b", "s3://bucket/runs?region=us",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC%7D%3BSERVER%3Dh&x=1", "wrong password: authentication failed",
    'password authentication failed for user "mlflow"', "http://host:5000 failed, mail bob@x", "optimizer.sigma=3 design=x",
    "a token bucket", "bearer token missing",
)  # fmt: skip


@pytest.mark.parametrize("text", REMOVED)
def test_a_credential_is_removed_and_everything_else_stays(text):
    assert redacted(text) == REMOVED[text] and has_secret(text)
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("text", KEPT)
def test_a_text_without_credentials_stays_as_it_is(text):
    assert redacted(text) == text and not has_secret(text)


@given(st.text(min_size=1), st.sampled_from(["postgresql", "http", "mysql+pymysql", "s3"]))
def test_a_percent_encoded_password_is_removed_whatever_its_characters(password, scheme):
    assert redacted(f"{scheme}://me:{quote(password, safe='')}@host:1/x failed") == f"{scheme}://***@host:1/x failed"
    assert redacted(f"{scheme}://host/x?password={quote(password, safe='')}&y=1") == f"{scheme}://host/x?password=***&y=1"


def test_the_words_of_a_command_stay_words_and_contain_no_credentials():
    words = ["python", "x.py", "--tracking-uri", "postgresql://me:it's a S3CRET@host/a b", "--storage", "a b/é", "--set", "x=1"]
    assert shlex.split(redacted_command(words)) == [*words[:3], "postgresql://***@host/a%20b", *words[4:]]
