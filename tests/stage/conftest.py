"""A plain page in Chromium with the bundle of all widgets: no kernel, no JupyterLab, nothing from another host."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from course_utils.widgets.stage import DIST, Declaration
from tests.browser.lab import INSTALL, chromium, find_chromium

PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>widgets</title><body></body>
<script type="module">
import * as course from "./course.js";
window.course = course;
</script></html>"""
