"""People in the admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def admin_of():
    def make(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def admin(admin_of, staff):
    """Staff without any of Django's permissions: the contract says staff sees and acts on all."""
    return admin_of(staff)


@pytest.fixture
def root(db):
    return User.objects.create_superuser("root", password="root-secret")
