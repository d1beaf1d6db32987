"""SQLAlchemy through the pooler, with the drivers and the pools that it has by itself."""

import asyncio
import threading

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from harness import World, case, check, same

GROUP = "pool:sqlalchemy"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "sa_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    lines: Mapped[list["Line"]] = relationship(back_populates="order", cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "sa_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("sa_order.id"))
    what: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="lines")


def url(world: World, driver: str) -> str:
    return world.pool().url.replace("postgresql://", f"postgresql+{driver}://")


@case(GROUP, "psycopg: tables, objects, relations, rollbacks, from 20 threads")
def with_psycopg(world: World) -> None:
    engine = sa.create_engine(url(world, "psycopg"), pool_size=20)
    failures: list[BaseException] = []
    try:
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)

        def work(number: int) -> None:
            try:
                for n in range(10):
                    with Session(engine) as session:
                        session.add(Order(customer=f"c{number}", lines=[Line(what=f"w{k}") for k in range(3)]))
                        session.commit()
                    with Session(engine) as session:
                        session.add(Order(customer=f"c{number}"))
                        session.flush()
                        session.rollback()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        if failures:
            raise failures[0]
        with Session(engine) as session:
            same(session.scalar(sa.select(sa.func.count()).select_from(Order)), 200)
            found = session.scalars(sa.select(Order).where(Order.customer == "c3")).all()
            same((len(found), {len(order.lines) for order in found}), (10, {3}))
    finally:
        engine.dispose()


@case(GROUP, "asyncpg: objects and relations, 20 at once")
async def with_asyncpg(world: World) -> None:
    engine = create_async_engine(url(world, "asyncpg"), pool_size=20)
    try:
        async with engine.begin() as c:
            await c.run_sync(Base.metadata.drop_all)
            await c.run_sync(Base.metadata.create_all)

        async def work(number: int) -> None:
            for n in range(10):
                async with AsyncSession(engine) as session:
                    session.add(Order(customer=f"c{number}", lines=[Line(what=f"w{k}") for k in range(3)]))
                    await session.commit()

        await asyncio.gather(*(work(n) for n in range(20)))
        async with AsyncSession(engine) as session:
            count = await session.scalar(sa.select(sa.func.count()).select_from(Line))
            same(count, 600)
            await session.execute(sa.text("select 1"))
            check((await session.scalar(sa.text("select count(*) from sa_order"))) == 200, "orders")
    finally:
        await engine.dispose()
