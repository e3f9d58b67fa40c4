"""Every setting, each from the environment (`PLATFORM_…`), strictly parsed."""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured
from environs import Env, validate
from pythonjsonlogger.core import RESERVED_ATTRS
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from . import database_url

env = Env(prefix="PLATFORM_")
NOT_NEGATIVE = validate.Range(min=0)

# ── Places ──────────────────────────────────────────────────────────────────────────────
BASE_DIR = Path(__file__).resolve().parent.parent
STATE_DIR: Path = env.path("STATE_DIR", BASE_DIR / "var").absolute()
RUNTIME_DIR: Path = env.path("RUNTIME_DIR", STATE_DIR / "run").absolute()
DATASETS_DIR: Path = env.path("DATASETS_DIR", STATE_DIR / "datasets").absolute()
ARTIFACTS_DIR: Path = env.path("ARTIFACTS_DIR", STATE_DIR / "artifacts").absolute()
SCRATCH_DIR: Path = env.path("SCRATCH_DIR", STATE_DIR / "scratch").absolute()
FEATURES_DIR: Path = env.path("FEATURES_DIR", STATE_DIR / "features").absolute()
"""The shared store of computed features; on one disk, or on a file system of all workers."""


def _secret_key() -> str:
    """The key from the environment, else the one kept in the state directory, made once."""
    given: str = env.str("SECRET_KEY", "")
    if given:
        return given
    kept = STATE_DIR / "secret.key"
    if not kept.exists():
        STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = STATE_DIR / f"secret.key.{os.getpid()}"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(50))
        try:
            # A link, not a rename: of two first starts at once, one key wins and stays.
            os.link(fresh, kept)
        except FileExistsError:
            pass  # the other process was first: its key is ours too
        finally:
            fresh.unlink()
    return kept.read_text()


# ── Security ────────────────────────────────────────────────────────────────────────────
SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
DEBUG: bool = env.bool("DEBUG", False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
ALLOWED_ORIGINS: list[str] = env.list("ALLOWED_ORIGINS", [])
"""Origins that browsers may open sockets from, beside the server's own host."""
CSRF_TRUSTED_ORIGINS: list[str] = ALLOWED_ORIGINS
HTTPS: bool = env.bool("HTTPS", False)
"""True where browsers reach the platform by https: cookies then travel by it alone."""
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000
# The body's limit is the API's own (1 MiB of JSON); this one guards forms.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_310_720

# ── Django ──────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "knox",
    "training",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "training.dashboard.security.ContentSecurityPolicy",
    "training.dashboard.security.NoNul",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "qlibplatform.urls"
ASGI_APPLICATION = "qlibplatform.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            # How values are said is known to every template.
            "builtins": ["training.dashboard.words"],
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
APPEND_SLASH = False
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "page-tasks"
LOGOUT_REDIRECT_URL = "sign-in"

# ── Database ────────────────────────────────────────────────────────────────────────────
SQLITE_OPTIONS = {
    "timeout": 20,
    # A transaction that reads first and writes later would fail at once under DEFERRED.
    "transaction_mode": "IMMEDIATE",
    # FULL: a commit survives a power cut, not only a killed process.
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        "PRAGMA journal_size_limit=67108864;"
    ),
}
STATEMENT_TIMEOUT_MS: int = env.int("STATEMENT_TIMEOUT_MS", 10_000, validate=NOT_NEGATIVE)
"""The longest that PostgreSQL works on one statement; 0: as long as it takes, as for `migrate`."""
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    # A server that is gone without a word, with its machine: else the kernel tries for a quarter
    # of an hour, and who waits for an answer waits for ever.
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "options": (
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout=5000"
        " -c idle_in_transaction_session_timeout=30000 -c tcp_user_timeout=15000"
    ),
}


def _database() -> dict[str, Any]:
    """`PLATFORM_DATABASE_URL`, or SQLite in the state directory."""
    config = database_url.parse(env.str("DATABASE_URL", f"sqlite:///{STATE_DIR / 'db.sqlite3'}"))
    if config["ENGINE"].endswith("sqlite3"):
        options = SQLITE_OPTIONS
    elif config["ENGINE"].endswith("postgresql"):
        options = POSTGRES_OPTIONS
    else:
        raise ImproperlyConfigured(
            "PLATFORM_DATABASE_URL must be a sqlite:/// or a postgresql:// address"
        )
    config["OPTIONS"] = {**options, **config.get("OPTIONS", {})}
    # Opening one takes longer than most questions; the threads that keep them are few.
    config["CONN_MAX_AGE"] = 60
    return config


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ── Redis: rings only, never the truth ──────────────────────────────────────────────────
REDIS_URL: str = env.str("REDIS_URL", f"unix://{RUNTIME_DIR / 'redis.sock'}")


def _rq_connection(url: str) -> dict[str, Any]:
    """RQ's settings for the address, by parts: beside a URL or a path it drops the rest."""
    # Few and quick tries: a request must not wait for a Redis that is gone.
    client: dict[str, Any] = {
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
        "retry": Retry(ExponentialBackoff(cap=0.2, base=0.01), 2),
        # Else each fork's first connection reads the client's version from its package, for 5 ms.
        "driver_info": None,
    }
    parts = urlsplit(url)
    if parts.scheme == "unix":
        client["unix_socket_path"] = parts.path
    elif parts.scheme not in {"redis", "rediss"}:
        raise ImproperlyConfigured("PLATFORM_REDIS_URL must be unix://, redis:// or rediss://")
    return {
        "SERIALIZER": "json",
        "HOST": parts.hostname or "localhost",
        "PORT": parts.port or 6379,
        "DB": int(parts.path.strip("/") or 0) if parts.scheme != "unix" else 0,
        "USERNAME": parts.username,
        "PASSWORD": unquote(parts.password) if parts.password else None,
        "SSL": parts.scheme == "rediss",
        "REDIS_CLIENT_KWARGS": client,
    }


QUEUES = ("cpu", "torch", "gpu")
"""Of tasks; `figures` beside them is of small sums over finished ones."""
RQ_QUEUES = {name: _rq_connection(REDIS_URL) for name in (*QUEUES, "figures")}
RQ = {
    # We ring after the commit ourselves; see training/services.py.
    "COMMIT_MODE": "auto",
    "JOB_CLASS": "training.work.queue.RunNextJob",
    "WORKER_CLASS": "training.work.worker.TrainingWorker",
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": REDIS_URL,
                    "socket_timeout": 5,
                    "socket_connect_timeout": 2,
                    "max_connections": 50,
                    "health_check_interval": 15,
                }
            ]
        },
    }
}

# ── Tasks and workers ───────────────────────────────────────────────────────────────────
LEASE: timedelta = timedelta(seconds=env.float("LEASE_S", 15.0))
LEASE_RENEW_S: float = env.float("LEASE_RENEW_S", 4.0)
RECONCILE_EVERY_S: float = env.float("RECONCILE_EVERY_S", 2.0)
WORKER_SILENCE = timedelta(seconds=20)
"""A worker that was not seen for so long counts as gone."""
HTTP_THREADS: int = env.int("HTTP_THREADS", 4)
"""Requests that a web process answers at a time, each with a database connection."""
SOCKETS_PER_USER: int = env.int("SOCKETS_PER_USER", 200)
"""Open sockets of one user and web process; one more is refused with 4429."""
SOCKETS_PER_USER_AND_TASK: int = env.int("SOCKETS_PER_USER_AND_TASK", 50)
"""Of these, the ones that watch one task."""
LISTENER_LOOK_S: float = env.float("LISTENER_LOOK_S", 2.0)
"""How often a web process looks for events that no message told it of."""
CORES = os.cpu_count() or 1
TRAINING_THREADS: int = env.int("TRAINING_THREADS", CORES)
"""Threads of one training: a worker's share of the cores."""
EVALUATOR: str = env.str("EVALUATOR", "platform", validate=validate.OneOf(["platform", "qlib"]))
"""Who computes the features of a training: the platform, as Qlib would to the last bit, or Qlib."""
TRAINING_MEMORY_BYTES: int = env.int("TRAINING_MEMORY_BYTES", 0)
"""Memory of one training; 0: the worker's share of the machine's."""
TRAINING_TIMEOUT_S: int = env.int("TRAINING_TIMEOUT_S", 21_600)
TRAINING_TIMEOUT_MAX_S: int = env.int("TRAINING_TIMEOUT_MAX_S", 7 * 86_400)
TRAINING_MAX_ATTEMPTS: int = env.int("TRAINING_MAX_ATTEMPTS", 2)
FEATURES_MAX_BYTES: int = env.int("FEATURES_MAX_BYTES", 20 * 1024**3)
"""What the shared store of features may take; 0: nothing is shared."""
LOG_MAX_BYTES: int = env.int("LOG_MAX_BYTES", 32 * 1024 * 1024)
"""What is kept of one attempt's log."""
OWN_CLASSES: str = env.str("OWN_CLASSES", "")
"""A TOML file that names classes beside Qlib's own; see training/workflow/README.md."""
DEFAULT_DATASET: str = env.str("DEFAULT_DATASET", "")
"""The dataset of a workflow that names none; empty: the only one there is."""
MLFLOW_TRACKING_URI: str = env.str("MLFLOW_TRACKING_URI", "")
"""Finished results are sent on to this MLflow server; empty: nowhere."""

# ── Keeping it tidy: `manage.py maintain`; 0 keeps for ever ──────────────────────────────
KEEP_TASKS_DAYS: int = env.int("KEEP_TASKS_DAYS", 0, validate=NOT_NEGATIVE)
"""Final tasks go so many days after their end, with all that is theirs."""
KEEP_TASKS: int = env.int("KEEP_TASKS", 0, validate=NOT_NEGATIVE)
"""At most so many final tasks stay: the newest."""
KEEP_ARTIFACTS_DAYS: int = env.int("KEEP_ARTIFACTS_DAYS", 0, validate=NOT_NEGATIVE)
"""Files and logs of final tasks go so many days after their end; the task and its metrics stay."""
KEEP_ARTIFACTS_BYTES: int = env.int("KEEP_ARTIFACTS_BYTES", 0, validate=NOT_NEGATIVE)
"""All files of tasks together: the oldest go first."""
KEEP_PROGRESS_DAYS: int = env.int("KEEP_PROGRESS_DAYS", 30, validate=NOT_NEGATIVE)
"""Progress, curve and log events of final tasks; the events that tell its story stay."""

ACCEL_PREFIX: str = env.str("ACCEL_PREFIX", "")
"""Where nginx serves ARTIFACTS_DIR internally, such as `/artifacts-of-tasks/`: downloads are then
handed over to it (X-Accel-Redirect). Empty: they are served by this process."""

ARTIFACTS_S3_BUCKET: str = env.str("ARTIFACTS_S3_BUCKET", "")
"""Artifacts lie in this bucket, where hosts share no folder; ARTIFACTS_DIR holds what was fetched.
Empty: they lie in ARTIFACTS_DIR alone."""
ARTIFACTS_S3_ENDPOINT: str = env.str("ARTIFACTS_S3_ENDPOINT", "")
"""The address of an S3-compatible server; empty: Amazon's."""
ARTIFACTS_S3_REGION: str = env.str("ARTIFACTS_S3_REGION", "us-east-1")
ARTIFACTS_S3_KEY: str = env.str("ARTIFACTS_S3_KEY", "")
ARTIFACTS_S3_SECRET: str = env.str("ARTIFACTS_S3_SECRET", "")

STORAGES: dict[str, dict[str, Any]] = {**global_settings.STORAGES}
if ARTIFACTS_S3_BUCKET:
    STORAGES["artifacts"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": ARTIFACTS_S3_BUCKET,
            "endpoint_url": ARTIFACTS_S3_ENDPOINT or None,
            "region_name": ARTIFACTS_S3_REGION,
            "access_key": ARTIFACTS_S3_KEY,
            "secret_key": ARTIFACTS_S3_SECRET,
            # Above so many bytes a download is a file; without it would all be memory.
            "max_memory_size": 8 * 1024**2,
            # Servers of one's own seldom have a name for each bucket.
            "addressing_style": "path" if ARTIFACTS_S3_ENDPOINT else "auto",
        },
    }

# ── API ─────────────────────────────────────────────────────────────────────────────────
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "training.api.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["training.api.rendering.FastJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "training.api.errors.handle",
    "STRICT_JSON": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Qlib Platform",
    "DESCRIPTION": "A Qlib workflow goes in, a real training runs, its progress arrives live.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api",
}
REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_PREFIX": "qp_",
    "TOKEN_TTL": timedelta(days=env.int("TOKEN_DAYS", 365)),
}

# ── Watching ────────────────────────────────────────────────────────────────────────────
LOG_FORMAT: str = env.str("LOG_FORMAT", "plain", validate=validate.OneOf(["plain", "json"]))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"ids": {"()": "training.tracing.Ids"}},
    "formatters": {
        "plain": {"format": "{asctime} {levelname} {name}: {message}{about}", "style": "{"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": ["levelname", "name", "message", "process"],
            "rename_fields": {"levelname": "level", "name": "logger"},
            "reserved_attrs": [*RESERVED_ATTRS, "about", "request"],
            "timestamp": "at",
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["ids"],
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO").upper()},
    "loggers": {"django.server": {"propagate": True}},
}
RELEASE: str = env.str("RELEASE", "")
"""What is installed here, such as a commit: workers, metrics and Sentry tell it."""
SENTRY_DSN: str = env.str("SENTRY_DSN", "")
"""Errors are sent to this Sentry project; empty: nowhere. Trainings never see it."""
if SENTRY_DSN:
    import sentry_sdk

    def _without_request(event: Any, hint: Any) -> Any:
        request = event.pop("request", {})
        address = urlsplit(request.get("url", ""))
        return {**event, "request": {"method": request.get("method"), "url": address.path}}

    # The error and where it came from, and no more: a workflow may be a secret of its owner, and
    # local variables hold passwords and tokens.
    sentry_sdk.init(
        dsn=SENTRY_DSN,
        release=RELEASE or None,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        max_breadcrumbs=0,
        before_send=_without_request,
    )
env.seal()
