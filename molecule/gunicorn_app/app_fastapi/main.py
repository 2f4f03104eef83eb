# SPDX-License-Identifier: GPL-3.0-or-later
"""An ASGI application of one file."""

import asyncio
import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"greeting": "fastapi", "release": os.environ.get("GOLIVE_RELEASE", "")}


@app.get("/slow")
async def slow() -> dict[str, str]:
    await asyncio.sleep(2.5)
    return {"greeting": "fastapi", "release": os.environ.get("GOLIVE_RELEASE", "")}
